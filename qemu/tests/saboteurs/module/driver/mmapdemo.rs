// SPDX-License-Identifier: GPL-2.0

//! A module that breaks a rule of the kernel, another one for each value of its parameter.
//!
//! It bears the driver's name, so that the lab takes it for the driver.

#![deny(unsafe_code)]

use core::borrow::Borrow;
use kernel::{
    new_mutex,
    new_spinlock,
    page::Page,
    prelude::*,
    sync::{
        Refcount,
        SpinLock, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

module! {
    type: Saboteur,
    name: "mmapdemo",
    authors: ["The mmapdemo authors"],
    description: "What a module must not do",
    license: "GPL",
    params: {
        how: usize {
            default: 0,
            description: "Which rule to break",
        },
    },
}

/// 64 MiB, far more than what comes and goes.
const NR_LEAKED: usize = 1 << 14;

/// Longer than the kernel lets a task block without a word, as the test sets it.
const BLOCKS: Delta = Delta::from_secs(6);

#[pin_data]
struct Saboteur {
    exit: Exit,
    #[pin]
    lock: SpinLock<()>,
}

impl kernel::InPlaceModule for Saboteur {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let how = *Borrow::<usize>::borrow(&module_parameters::how.value());
        pin_init::pin_init_scope(move || {
            break_a_rule(how)?;
            Ok(try_pin_init!(Self {
                exit: Exit(how),
                lock <- new_spinlock!(()),
                _: {
                    if exit.0 == 9 {
                        let _held = lock.lock();
                        fsleep(Delta::from_millis(50));
                    }
                },
            }))
        })
    }
}

fn break_a_rule(how: usize) -> Result {
    match how {
        1 => return Err(EBUSY),
        2 => panic!("as asked for"),
        3 => {
            kernel::warn_on!(how == 3);
        }
        4 => {
            for _ in 0..NR_LEAKED {
                core::mem::forget(Page::alloc_page(GFP_KERNEL)?);
            }
        }
        5 => hang(),
        7 => fsleep(BLOCKS),
        8 => Refcount::new(0).inc(),
        10 => core::mem::forget(KBox::new([how; 8], GFP_KERNEL)?),
        11 => lock_both_ways()?,
        12 => overflow(how)?,
        _ => {}
    }
    Ok(())
}

/// Locks one, then the other; then the other, then the one. Two that do so at once can wait for each other.
fn lock_both_ways() -> Result {
    let one = KBox::pin_init(new_mutex!(0, "saboteur::one"), GFP_KERNEL)?;
    let other = KBox::pin_init(new_mutex!(0, "saboteur::other"), GFP_KERNEL)?;
    for (first, second) in [(&one, &other), (&other, &one)] {
        let _first = first.lock();
        let _second = second.lock();
    }
    Ok(())
}

/// Adds to a number until it has no room for more: wrong, and wrapped around where nobody looks.
fn overflow(how: usize) -> Result {
    let mut number = u8::try_from(how)?;
    for _ in 0..=u8::MAX {
        number += 1;
    }
    pr_info!("wrapped around to {number}\n");
    Ok(())
}

/// Sleeps for ever, with breaks in which nobody can say that it hangs.
fn hang() {
    loop {
        fsleep(Delta::from_millis(100));
    }
}

/// What happens when the module is unloaded.
struct Exit(usize);

impl Drop for Exit {
    fn drop(&mut self) {
        if self.0 == 6 {
            hang();
        }
    }
}
