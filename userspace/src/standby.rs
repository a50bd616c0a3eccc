//! Standby: a program that is started before it is needed, and gets ready meanwhile.
//!
//! Whoever starts it makes its standard input a socket, and sets [`STANDBY`]. It says there that it is ready, and begins
//! when it gets an answer.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use crate::error::{Error, Result};

/// The environment variable that says so.
pub const STANDBY: &str = "MMAPDEMO_STANDBY";

const SOCKET: &str = "the socket that is to say when to begin";

/// Gets ready and waits, if this program was started early.
///
/// # Errors
///
/// If it cannot get ready, or if nobody is left who could say when to begin.
pub fn wait(get_ready: impl FnOnce() -> Result<()>) -> Result<()> {
    if env::var_os(STANDBY).is_none() {
        return Ok(());
    }
    get_ready()?;
    let socket = io::stdin().as_fd().try_clone_to_owned();
    let mut socket = File::from(socket.map_err(Error::file("duplicate", SOCKET))?);
    socket
        .write_all(b"\n")
        .and_then(|()| socket.read_exact(&mut [0]))
        .map_err(Error::file("use", SOCKET))
}
