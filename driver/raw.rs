// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate of Linux 7.2 and 7.3 does not wrap, as types that are safe to use.
//!
//! - `pages`: memory that userspace may write to at any moment;
//! - `vma`: mappings of such memory, and what the kernel tells their owner;
//! - `registration`: a misc device whose files have a length;
//! - `user`: who asks, and in which shape.

#![expect(unsafe_code, reason = "wraps C interfaces")]

pub(crate) use self::{
    pages::{
        Pages,
        SharedPage, //
    },
    registration::{
        FixedLen,
        Options,
        Registration, //
    },
    user::{
        appends,
        is_admin, //
    },
    vma::{
        Mapped,
        Window, //
    }, //
};

mod pages;
mod registration;
mod user;
mod vma;
