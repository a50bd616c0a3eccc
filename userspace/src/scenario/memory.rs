//! Memory: what the kernel promises, and what becomes of a process that takes it at its word.

use nix::sys::mman::ProtFlags;
use nix::unistd::getpid;

use super::stage::{Act, Stage};
use super::{Scenario, observe, run};
use crate::boot::Boot;
use crate::error::Result;
use crate::evidence::{CallEnd, Evidence, Value};
use crate::fixture::Fixture;
use crate::need::Need;
use crate::object::Request;
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "overcommit",
    title: "Overcommit and MAP_NORESERVE",
    question: "How much memory does the kernel promise, and what if somebody uses all of it?",
    claims: &[
        "limits-noreserve-table",
        "limits-overcommit-mode-0",
        "limits-overcommit-mode-1",
        "limits-overcommit-mode-2",
        "flags-noreserve-sigsegv",
    ],
    needs: &[Need::Pagemap, Need::Root, Need::Btf],
    boots: &[Boot::SmallMemory],
    play: overcommit,
}];

fn overcommit(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    accounts(stage)?;
    let table = run(fixture, "overcommit-table")?;
    for (mode, how) in [
        (0, "guesses"),
        (1, "promises everything"),
        (2, "keeps accounts"),
    ] {
        let did = format!(
            "{how}: a process asks for a quarter of the memory, for 64 MiB more than all of it, and for 1 TiB; then for \
             eighths, up to 50 of them. Another does so with MAP_NORESERVE"
        );
        let by = format!("the kernel in overcommit mode {mode}");
        stage.record(Act::new(by, did).facts(promised(&table, mode)))?;
        let (says, seen, why) = judged(&table, mode);
        stage.finding(says, seen, why);
    }
    let killed = observe(fixture, "out-of-memory", "noreserve.")?;
    let end = killed.get("noreserve.end");
    let did = "maps twice the memory with MAP_NORESERVE, and stores to every page of it";
    stage.record(Act::new("a process", did).facts(killed))?;
    stage.finding(
        "SIGKILL ends it; there is no SIGSEGV that it could handle.",
        end == Some(Value::Text("SIGKILL".to_owned())),
        "No account had anything of this. When no page is left, the OOM killer chooses somebody.",
    );
    Ok(())
}

/// Two VMAs that differ in what is in the accounts.
fn accounts(stage: &mut Stage<'_>) -> Result<()> {
    let plain = Request::anonymous(libc::MAP_PRIVATE);
    let unreserved = plain.clone().flags(plain.flags | libc::MAP_NORESERVE);
    let (mut kept, mut pages) = (Vec::new(), Vec::new());
    for (request, label, did, flag, says) in [
        (
            plain,
            "plain",
            "maps a page of memory",
            "ac",
            "The VMA has the flag ac: it is accounted for.",
        ),
        (
            unreserved,
            "noreserve",
            "maps another with MAP_NORESERVE",
            "nr",
            "Its VMA has the flag nr instead: it is in no account.",
        ),
    ] {
        // Between pages of another kind, so that the kernel joins it with nothing.
        let guards = Request::anonymous(libc::MAP_PRIVATE).prot(ProtFlags::PROT_NONE);
        let mut place = guards.len(3 * PAGE_SIZE).map()?;
        let placed = place.replace_page(PAGE_SIZE, request.call(), None);
        let addr = (place.addr() + PAGE_SIZE) as u64;
        kept.push(place);
        pages.push((label.to_owned(), addr));
        stage.watch("A", getpid(), pages.clone());
        let act = Act::new("A", did).call(request.call().to_string());
        stage.record(act.result(placed.map(drop)))?;
        let mut there = stage.vmas("A").iter().filter(|vma| vma.start == addr);
        let seen = there.any(|vma| vma.flags.iter().any(|known| known == flag));
        stage.finding(says, seen, "");
    }
    // The processes that follow are over before anybody could look.
    stage.leaves("A");
    Ok(())
}

/// What the experiment saw in this mode, in other words.
fn promised(table: &Evidence, mode: u32) -> Evidence {
    let mut told = Evidence::new();
    let mut tell = |name: String, label: &str| {
        if let Some(value) = table.get(label) {
            told.note(name, value);
        }
    };
    tell("memory.mib".to_owned(), "machine.mib");
    tell("commit-limit.mib".to_owned(), "limit.mib");
    for (prefix, kind) in [("", "plain"), ("noreserve.", "noreserve")] {
        for (name, label) in [
            ("quarter", "quarter"),
            ("64-mib-more-than-all", "more"),
            ("1-tib", "tebi"),
            ("mib-charged-for-the-quarter", "charged-mib"),
            ("mib-of-all-eighths", "sum-mib"),
        ] {
            tell(format!("{prefix}{name}"), &format!("{kind}-{mode}.{label}"));
        }
    }
    told
}

/// What it shows, whether that was seen, and why it is so.
fn judged(table: &Evidence, mode: u32) -> (&'static str, bool, &'static str) {
    let granted = |label: &str| table.get(label) == Some(Value::Call(CallEnd::Ok));
    let refused = |label: &str| matches!(table.get(label), Some(Value::Call(CallEnd::Refused(_))));
    let mib = |label: &str| match table.get(label) {
        Some(Value::Count(mib)) => Some(mib),
        _ => None,
    };
    // What was not seen is neither less nor more.
    let is_less =
        |less: Option<_>, more: Option<_>| less.zip(more).is_some_and(|(less, more)| less < more);
    match mode {
        0 => (
            "One request for more than there is is refused, unless it says MAP_NORESERVE; small ones are granted, far \
             beyond what there is.",
            refused("plain-0.more")
                && granted("noreserve-0.more")
                && is_less(mib("machine.mib"), mib("plain-0.sum-mib")),
            "Each call is compared with all memory and swap, without what was promised before.",
        ),
        1 => (
            "Everything is granted, with the flag and without.",
            granted("plain-1.tebi") && granted("noreserve-1.tebi"),
            "",
        ),
        _ => (
            "Nothing is granted beyond the limit, and MAP_NORESERVE makes no difference.",
            ["plain-2", "noreserve-2"].iter().all(|who| {
                refused(&format!("{who}.more"))
                    && is_less(mib(&format!("{who}.sum-mib")), mib("limit.mib"))
                    && is_less(Some(0), mib(&format!("{who}.charged-mib")))
            }),
            "Here the account is what counts, so nobody is left out of it.",
        ),
    }
}
