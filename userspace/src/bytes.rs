//! Bytes: several of a mapping's, loaded or stored one by one.

use crate::error::Result;
use crate::sys::{Mapping, PAGE_SIZE};

impl Mapping {
    /// Reads bytes one by one.
    ///
    /// # Errors
    ///
    /// If one of them lies outside.
    pub fn load_bytes(&self, offset: usize, len: usize) -> Result<Vec<u8>> {
        self.check(offset, len)?;
        // `collect` does not know how many of a `Result` there will be, and takes three times as long.
        let mut bytes = Vec::with_capacity(len);
        for at in offset..offset + len {
            bytes.push(self.load(at)?);
        }
        Ok(bytes)
    }

    /// Writes bytes one by one, in rising order.
    ///
    /// # Errors
    ///
    /// If one of them lies outside.
    pub fn store_bytes(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        bytes
            .iter()
            .enumerate()
            .try_for_each(|(index, byte)| self.store(offset + index, *byte))
    }

    /// Reads the first byte of each page.
    ///
    /// # Errors
    ///
    /// Never, as all of them lie inside.
    pub fn load_pages(&self) -> Result<()> {
        (0..self.len())
            .step_by(PAGE_SIZE)
            .try_for_each(|offset| self.load(offset).map(drop))
    }

    /// Writes the first byte of each page.
    ///
    /// # Errors
    ///
    /// Never, as all of them lie inside.
    pub fn store_pages(&self, value: u8) -> Result<()> {
        (0..self.len())
            .step_by(PAGE_SIZE)
            .try_for_each(|offset| self.store(offset, value))
    }
}
