//! What the driver promises, tried on the real device.
//!
//! Built with the feature `vm` alone, and run by `cargo lab test` in the guest, as root, with the
//! module at [`fixture::MODULE`]. Every test has the device to itself.

// `cfg(test)` is always set here; it tells clippy that helpers of tests may panic as tests may.
#[cfg(test)]
mod address;
#[cfg(test)]
mod append;
#[cfg(test)]
mod chains;
#[cfg(test)]
mod differences;
#[cfg(test)]
mod end;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod gup;
#[cfg(test)]
mod injected;
#[cfg(test)]
mod injection;
#[cfg(test)]
mod ioctl;
#[cfg(test)]
mod lifetime;
#[cfg(test)]
mod log;
#[cfg(test)]
mod mapping;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod module;
#[cfg(test)]
mod order;
#[cfg(test)]
mod pinned;
#[cfg(test)]
mod poll;
#[cfg(test)]
mod scarce;
#[cfg(test)]
mod seek;
#[cfg(test)]
mod strategy;
#[cfg(test)]
mod twin;
#[cfg(test)]
mod window;
