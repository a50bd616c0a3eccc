//! Surroundings: the kernel and the module that the claims are tested on, for people.

use std::fmt;
use std::fs;

use nix::errno::Errno;
use nix::sys::utsname::uname;

use crate::device::Device;

/// What a report is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    kernel: String,
    module: String,
}

impl Surroundings {
    /// Looks at the running kernel, the loaded modules and the device.
    ///
    /// # Errors
    ///
    /// As uname(2).
    pub fn look(device: &Device) -> Result<Self, Errno> {
        let name = uname()?;
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
        let loaded = loaded_size(&modules)
            .map(|size| format!("the Rust driver mmapdemo.ko ({size} bytes) is loaded"));
        let node = device.node().display();
        let served = device
            .unusable()
            .unwrap_or_else(|| format!("{node} answers"));
        Ok(Self {
            kernel: format!("Linux {}, {}", text(name.release()), text(name.version())),
            module: loaded.map_or_else(|| served.clone(), |loaded| format!("{loaded}, {served}")),
        })
    }
}

impl fmt::Display for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.kernel, self.module)
    }
}

/// The bytes that the module takes in the kernel: the second field of its line in `/proc/modules`.
fn loaded_size(modules: &str) -> Option<&str> {
    modules.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next() == Some("mmapdemo"))
            .then(|| fields.next())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_found_among_others() {
        let modules = "mmapdemo_other 4096 0 - Live 0x0\nmmapdemo 12288 1 - Live 0x0 (OE)\n";
        assert_eq!(loaded_size(modules), Some("12288"));
        assert_eq!(loaded_size("ext4 1 0 - Live 0x0\n"), None);
    }
}
