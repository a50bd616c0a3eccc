//! What nobody else writes: the worker's own bytes of the buffer, and the number that all increment.

use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::sys::mman::ProtFlags;

use super::{Trouble, Worker, judge, violation};
use crate::device::DEFAULT_NODES;
use crate::stress::board::End;
use crate::stress::operation::{By, COUNTER, LANE_LEN};
use crate::sys::argument::{self, Place};
use crate::sys::ioctl;
use crate::uapi::{self, Fill};

/// How often in a row: one alone seldom meets another's.
const INCREMENTS: u64 = 100;

impl Worker<'_> {
    pub(super) fn write_lane(&mut self, by: By, value: u8) -> Result<End, Trouble> {
        if self.round.racing || !self.fill_lane(by, value)? {
            return Ok(End::Idle);
        }
        self.lane = value;
        Ok(End::Done)
    }

    /// Sets the bytes of the lane; `false` if there is nothing to do it with.
    fn fill_lane(&mut self, by: By, value: u8) -> Result<bool, Trouble> {
        let offset = self.lane_offset();
        match by {
            By::Area(slot) => {
                let Some(area) = self.lanes_in(slot, ProtFlags::PROT_WRITE) else {
                    return Ok(false);
                };
                for at in offset..offset + LANE_LEN {
                    if let Err(signal) = self.toucher.store(&area.mapping, at, value)? {
                        return violation(format!("met {signal} at byte {at} of the buffer"));
                    }
                }
            }
            By::Call(file) => {
                for at in 0..LANE_LEN {
                    self.memory.store(at, value)?;
                }
                let Some((opened, fd)) = self.fd(file) else {
                    return Ok(false);
                };
                if !opened.writable || opened.appends {
                    return Ok(false);
                }
                let at = i64::try_from(offset).unwrap_or(0);
                let written = argument::write(fd, Place::In(&self.memory, 0), LANE_LEN, at);
                if written != Ok(LANE_LEN) {
                    return violation(format!("wrote {written:?} of {LANE_LEN} bytes"));
                }
            }
            By::Ioctl(file) => {
                let Some((_, fd)) = self.fd(file).filter(|(opened, _)| opened.writable) else {
                    return Ok(false);
                };
                let order = Fill {
                    offset: offset as u64,
                    len: LANE_LEN as u64,
                    value,
                    reserved: [0; 7],
                };
                judge(ioctl::fill(fd, order), true, &[])?;
            }
        }
        Ok(true)
    }

    /// The area, if it shows the lanes, and nothing forbids this or takes the page away.
    fn lanes_in(&self, slot: usize, prot: ProtFlags) -> Option<&super::Area> {
        let area = self.areas[slot].as_ref()?;
        (area.shows_lanes(0) && area.allows(0, prot)).then_some(area)
    }

    pub(super) fn read_lane(&mut self, by: By) -> Result<End, Trouble> {
        if self.round.racing {
            return Ok(End::Idle);
        }
        let (offset, value) = (self.lane_offset(), self.lane);
        match by {
            By::Area(slot) => {
                let Some(area) = self.lanes_in(slot, ProtFlags::PROT_READ) else {
                    return Ok(End::Idle);
                };
                for at in offset..offset + LANE_LEN {
                    match self.toucher.load(&area.mapping, at)? {
                        Ok(byte) if byte == value => {}
                        other => return wrong(at, &format!("{other:?}"), value),
                    }
                }
            }
            By::Call(file) => {
                let Some((_, fd)) = self.fd(file).filter(|(opened, _)| opened.readable) else {
                    return Ok(End::Idle);
                };
                let at = i64::try_from(offset).unwrap_or(0);
                let read = argument::read(fd, Place::In(&self.memory, 0), LANE_LEN, at);
                if read != Ok(LANE_LEN) {
                    return violation(format!("read {read:?} of {LANE_LEN} bytes"));
                }
                self.check_bytes(0, offset)?;
            }
            By::Ioctl(file) => {
                let Some((_, fd)) = self.fd(file).filter(|(opened, _)| opened.readable) else {
                    return Ok(End::Idle);
                };
                let expected = (0..LANE_LEN).fold(uapi::CHECKSUM_START, |sum, _| {
                    uapi::checksum_step(sum, value)
                });
                let sum = ioctl::checksum(fd, offset as u64, LANE_LEN as u64);
                if sum != Ok(expected) {
                    return violation(format!("got the checksum {sum:?} instead of {expected:#x}"));
                }
            }
        }
        Ok(End::Done)
    }

    /// Finds the lane in the memory for arguments, `at` there and at `offset` of the buffer.
    pub(super) fn check_bytes(&self, at: usize, offset: usize) -> Result<(), Trouble> {
        for index in 0..LANE_LEN {
            let byte = self.memory.load(at + index)?;
            if byte != self.lane {
                return wrong(offset + index, &format!("{byte:#x}"), self.lane).map(drop);
            }
        }
        Ok(())
    }

    /// Finds the lane as it was written last, by a file of each node.
    pub(super) fn check_lane(&mut self) -> Result<(), Trouble> {
        for node in 0..DEFAULT_NODES.len() {
            self.open(0, node, libc::O_RDWR)?;
            self.read_lane(By::Call(0))?;
            self.read_lane(By::Ioctl(0))?;
        }
        Ok(())
    }

    pub(super) fn increment(&mut self, by: By) -> Result<End, Trouble> {
        if self.round.racing {
            return Ok(End::Idle);
        }
        match by {
            By::Area(slot) => {
                let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
                let Some(area) = self.lanes_in(slot, both) else {
                    return Ok(End::Idle);
                };
                let number = area.mapping.long(COUNTER)?;
                for _ in 0..INCREMENTS {
                    number.fetch_add(1, Ordering::Relaxed);
                }
            }
            By::Ioctl(file) => {
                let Some((_, fd)) = self.fd(file).filter(|(opened, _)| opened.writable) else {
                    return Ok(End::Idle);
                };
                for _ in 0..INCREMENTS {
                    judge(ioctl::increment(fd, COUNTER as u64), true, &[] as &[Errno])?;
                }
            }
            // No write is an increment.
            By::Call(_) => return Ok(End::Idle),
        }
        self.round
            .board
            .count_increments(self.draw.worker, INCREMENTS)?;
        Ok(End::Done)
    }
}

fn wrong(at: usize, found: &str, expected: u8) -> Result<End, Trouble> {
    violation(format!(
        "found {found} at byte {at} of the buffer, where nobody else writes and {expected:#x} was written"
    ))
}
