//! What the driver promises, tried on the real device.
//!
//! Runs in the guest as root, with the module at [`fixture::MODULE`]; on a host, where there is
//! nothing to try it on, this file is empty. Every test has the device to itself.

#![cfg(feature = "vm")]

// `cfg(test)` is always set here; it tells clippy that helpers of tests may panic as tests may.
#[cfg(test)]
mod address;
#[cfg(test)]
mod append;
#[cfg(test)]
mod end;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod log;
#[cfg(test)]
mod mapping;
#[cfg(test)]
mod module;
#[cfg(test)]
mod order;
#[cfg(test)]
mod seek;
