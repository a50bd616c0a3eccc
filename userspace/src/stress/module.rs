//! The module, loaded and unloaded while others want to use it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use super::board::Board;
use crate::device::{DEFAULT_NODES, Device};
use crate::error::{Error, Result};
use crate::object::{self, Mode};
use crate::sys::ioctl;

/// Its name.
pub const NAME: &CStr = c"mmapdemo";

/// Where the guest has it.
const FILE: &str = "/root/mmapdemo.ko";

/// Time for those who have it to let go, on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is tried to be unloaded before the others are asked to let go: three who open it again and
/// again could keep it for minutes.
const ATTEMPTS: usize = 50;

/// How often somebody has to have got hold of it before it is unloaded again.
const USES: u64 = 4;

/// Its parameters.
#[derive(Clone, Copy, Debug)]
pub enum Params {
    /// As if none were given.
    Default,
    /// The length of the buffer.
    Pages(usize),
}

/// Opens its file.
///
/// # Errors
///
/// If it is not there.
pub fn open() -> Result<File> {
    object::open(FILE.as_ref(), Mode::ReadOnly)
}

/// `finit_module(2)`.
///
/// # Errors
///
/// What the call says.
pub fn load(file: &File, params: Params) -> Result<(), Errno> {
    let params = match params {
        Params::Default => CString::default(),
        Params::Pages(nr) => CString::new(format!("pages={nr}")).map_err(|_| Errno::EINVAL)?,
    };
    finit_module(file, &params, ModuleInitFlags::empty())
}

/// Unloads it, as soon as nobody has it.
///
/// # Errors
///
/// If somebody keeps it, or the kernel does.
pub fn unload() -> Result<()> {
    unload_from(|_| Ok(()))
}

/// Unloads it, and tells `ask` after each attempt that was refused how many there were.
fn unload_from(ask: impl Fn(usize) -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let context = Error::call("delete_module()", "mmapdemo");
    for attempt in 0.. {
        match delete_module(NAME, DeleteModuleFlags::O_NONBLOCK) {
            Ok(()) => break,
            Err(Errno::EAGAIN) if Instant::now() < deadline => {
                ask(attempt)?;
                std::thread::yield_now();
            }
            Err(errno) => return Err(context(errno)),
        }
    }
    Ok(())
}

/// Unloads it and loads it with other parameters.
///
/// # Errors
///
/// As [`unload`], or if it is not taken.
pub fn reload(params: Params) -> Result<()> {
    unload()?;
    load(&open()?, params).map_err(Error::call("finit_module()", FILE))
}

/// Unloads and loads it again and again, until the deadline, against all who use it; returns how often.
///
/// # Errors
///
/// As [`reload`].
pub fn cycle(board: &Board, nr_pages: usize, nr_cycles: usize, deadline: Instant) -> Result<usize> {
    let file = open()?;
    for cycle in 0..nr_cycles {
        if Instant::now() > deadline {
            return Ok(cycle);
        }
        unload_from(|attempt| board.set_pause(attempt >= ATTEMPTS))?;
        board.set_pause(false)?;
        load(&file, Params::Pages(nr_pages)).map_err(Error::call("finit_module()", FILE))?;
        await_uses(board, deadline)?;
    }
    Ok(nr_cycles)
}

/// Waits until somebody has got hold of the module: to unload it from nobody is no race.
fn await_uses(board: &Board, deadline: Instant) -> Result<()> {
    let (before, since) = (board.uses()?, Instant::now());
    // After the deadline nobody opens it any more; nor after somebody has found something.
    while board.uses()? < before + USES && !board.over()? && Instant::now() <= deadline {
        if since.elapsed() > PATIENCE {
            let what = "somebody to open a node of the module".to_owned();
            return Err(Error::Deadline {
                what,
                timeout: PATIENCE,
            });
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Waits until nobody has mapped, nor pinned, a page of the buffer.
///
/// # Errors
///
/// If somebody has, for too long: what was counted and not given back stays so for ever.
pub fn await_unused(nr_pages: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A ring of io_uring(7) is taken down by a worker of the kernel, some time after its process.
        let Some(used) = used(nr_pages)? else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(Error::Garbled {
                what: "who uses the buffer when nobody is left".to_owned(),
                detail: used,
            });
        }
        std::thread::yield_now();
    }
}

/// What of the buffer is in use, in words.
fn used(nr_pages: usize) -> Result<Option<String>> {
    for node in DEFAULT_NODES {
        let file = Device::new(node).open()?;
        let info = ioctl::info(file.as_fd()).map_err(Error::call("INFO", node))?;
        if info.mappings != 0 {
            return Ok(Some(format!("{node} has {} mappings", info.mappings)));
        }
        for pgoff in 0..nr_pages as u64 {
            let page = ioctl::page_info(file.as_fd(), pgoff);
            let page = page.map_err(Error::call(format!("PAGE_INFO of page {pgoff}"), node))?;
            if (page.refcount, page.mapcount) != (1, 0) {
                return Ok(Some(format!("{page:?} of {node}")));
            }
        }
    }
    Ok(None)
}
