//! ORC: where the kernel finds the caller of each function, said again as DWARF, which debuggers read.
//!
//! Distributions' kernels have neither frame pointers nor, in what is booted, debug information: a debugger
//! would lose its way in the first function. But each has the table that its own stack traces are made by
//! (`Documentation/arch/x86/orc-unwinder.rst`). One entry of it is one row of a DWARF table of call frames
//! (DWARF 5, 6.4), with less in it: of the registers that a function saves, ORC knows the frame pointer only.

use anyhow::{Context, Result, ensure};
use gimli::write::{
    Address, CallFrameInstruction, CieId, CommonInformationEntry, DebugFrame, EndianVec,
    Expression, FrameDescriptionEntry, FrameTable,
};
use gimli::{Encoding, Format, LittleEndian, Register, X86_64};

/// The hash of the definition that this file was written after (`ORC_HASH`, `scripts/orc_hash.sh`): that of
/// `struct orc_entry` in `arch/x86/include/asm/orc_types.h` of Linux 7.2 and 7.3. Each kernel has its own in
/// `.orc_header`.
const KNOWN_HASH: [u8; 20] = [
    0x13, 0x7c, 0x36, 0xad, 0x76, 0x27, 0xc4, 0xdd, 0x55, 0x93, 0x21, 0x76, 0xbb, 0x0e, 0xcd, 0xbd,
    0x50, 0x41, 0xfc, 0x82,
];

/// The length of a `struct orc_entry`.
const ENTRY_LEN: usize = 6;

/// The length of an entry of `.orc_unwind_ip`.
const IP_LEN: usize = 4;

/// How many rows share an entry of the DWARF table. A debugger executes up to so many for each frame, and
/// each entry takes 24 bytes.
const ROWS_PER_ENTRY: usize = 64;

/// The registers that there are rules for, by their DWARF numbers: all general ones, and the return address.
const NR_REGISTERS: usize = 17;

/// The tables of a kernel image.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// `.orc_header`.
    pub header: &'a [u8],
    /// `.orc_unwind_ip`.
    pub ips: &'a [u8],
    /// The address of that section: its entries are relative to their own.
    pub ips_addr: u64,
    /// `.orc_unwind`.
    pub entries: &'a [u8],
}

/// How to find the caller from an address on, up to that of the next row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    addr: u64,
    rules: Rules,
    /// Whether its caller was interrupted: it goes on at, not behind, the instruction that is named.
    interrupts: bool,
}

/// Where each register of the caller is found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules {
    frame: Frame,
    registers: [Rule; NR_REGISTERS],
}

/// Where the frame is: its address is the caller's stack pointer, or that of the registers that an
/// interrupt has saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// At a register's value and so many bytes.
    At(Register, i32),
    /// What is stored at a register's value and so many bytes, and so many more bytes.
    Stored(Register, i32, u64),
}

/// Where one register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Nowhere.
    Lost,
    /// In itself.
    Kept,
    /// In memory, so many bytes from the frame.
    Saved(i32),
    /// In memory, so many bytes from where the frame pointer points.
    SavedByFramePointer(i32),
    /// It is the frame's address.
    IsFrame,
}

/// Says what the kernel's tables say as a DWARF table: the content of a section `.debug_frame`.
///
/// # Errors
///
/// When the tables are of another format than this file knows, or cut off.
pub fn debug_frame(tables: &Tables<'_>) -> Result<Vec<u8>> {
    let rows = read(tables)?;
    let mut table = FrameTable::default();
    let [called, interrupting] = [false, true].map(|interrupts| table.add_cie(common(interrupts)));
    let cie = |row: &Row| if row.interrupts { interrupting } else { called };
    // The last row says only where the table ends.
    let (end, mut rest) = rows.split_last().context("its ORC tables are empty")?;
    while let [first, later @ ..] = rest {
        let same = later
            .iter()
            .take(ROWS_PER_ENTRY - 1)
            .take_while(|row| row.interrupts == first.interrupts);
        let (entry, behind) = rest.split_at(1 + same.count());
        let until = behind.first().unwrap_or(end).addr;
        add_entry(&mut table, cie(first), entry, until)?;
        rest = behind;
    }
    let mut section = DebugFrame::from(EndianVec::new(LittleEndian));
    let written = table.write_debug_frame(&mut section);
    written.context("failed to write the kernel's call frames as DWARF")?;
    Ok(section.0.into_vec())
}

fn add_entry(table: &mut FrameTable, cie: CieId, rows: &[Row], end: u64) -> Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let len = |addr: u64| u32::try_from(addr - first.addr).context("a hole in the ORC tables");
    let mut entry = FrameDescriptionEntry::new(Address::Constant(first.addr), len(end)?);
    let mut known = Rules::called();
    for row in rows {
        for instruction in row.rules.since(&known) {
            entry.add_instruction(len(row.addr)?, instruction);
        }
        known = row.rules.clone();
    }
    table.add_fde(cie, entry);
    Ok(())
}

/// What the entries of one kind have in common: they begin as a function does that was just called.
fn common(interrupts: bool) -> CommonInformationEntry {
    let encoding = Encoding {
        format: Format::Dwarf32,
        version: 4,
        address_size: 8,
    };
    let mut common = CommonInformationEntry::new(encoding, 1, 1, X86_64::RA);
    common.signal_trampoline = interrupts;
    let Rules { frame, registers } = Rules::called();
    common.add_instruction(frame.instruction());
    for (number, rule) in (0..).zip(registers) {
        common.add_instruction(rule.instruction(Register(number)));
    }
    common
}

/// Reads the tables, in the order of addresses.
fn read(tables: &Tables<'_>) -> Result<Vec<Row>> {
    ensure!(
        tables.header == KNOWN_HASH,
        "its ORC tables are of a format that the lab does not know"
    );
    ensure!(
        tables.ips.len() / IP_LEN == tables.entries.len() / ENTRY_LEN,
        "its ORC tables are cut off"
    );
    let places = (tables.ips_addr..).step_by(IP_LEN);
    let ips = tables.ips.chunks_exact(IP_LEN).zip(places);
    let entries = tables.entries.chunks_exact(ENTRY_LEN);
    let mut rows = ips
        .zip(entries)
        .map(|((ip, place), entry)| Row::read(place, ip, entry))
        .collect::<Option<Vec<_>>>()
        .context("its ORC tables are cut off")?;
    // As a rule they are: the kernel's build sorts them.
    rows.sort_by_key(|row| row.addr);
    // Of several rows of one address the last holds (`__orc_find()`): those before it end a section where the
    // next one begins, and the build sorts them there (`orc_sort_cmp()`, `scripts/sorttable.c`).
    rows.dedup_by(|later, first| {
        let same = later.addr == first.addr;
        if same {
            std::mem::swap(later, first);
        }
        same
    });
    Ok(rows)
}

impl Row {
    /// Reads one row: its address, which is relative to the `place` where that stands, and its entry.
    fn read(place: u64, ip: &[u8], entry: &[u8]) -> Option<Self> {
        let bytes = |at: usize| entry.get(at..)?.first_chunk().copied();
        let offset = |at| bytes(at).map(i16::from_le_bytes).map(i32::from);
        let distance = i32::from_le_bytes(*ip.first_chunk()?);
        let bits = bytes(4).map(u16::from_le_bytes)?;
        let orc = Orc {
            sp_offset: offset(0)?,
            bp_offset: offset(2)?,
            sp_reg: bits & 0xf,
            bp_reg: bits >> 4 & 0xf,
            kind: bits >> 8 & 0x7,
        };
        Some(Self {
            addr: place.wrapping_add_signed(distance.into()),
            rules: orc.rules(),
            interrupts: bits >> 11 & 1 == 1,
        })
    }
}

/// A `struct orc_entry`; the numbers are those of `orc_types.h`.
struct Orc {
    sp_offset: i32,
    bp_offset: i32,
    sp_reg: u16,
    bp_reg: u16,
    kind: u16,
}

impl Orc {
    /// What the kernel's unwinder does by it (`unwind_next_frame()`, `arch/x86/kernel/unwind_orc.c`).
    fn rules(&self) -> Rules {
        const KIND_CALL: u16 = 2;
        const KIND_REGS: u16 = 3;
        const KIND_REGS_PARTIAL: u16 = 4;
        const BASE_BP: u16 = 4;
        const BASE_PREV_SP: u16 = 8;
        let mut rules = Rules::called();
        let frame = self.frame();
        let saved: &[(Register, i32)] = match self.kind {
            KIND_CALL => &[],
            KIND_REGS => &PT_REGS,
            KIND_REGS_PARTIAL => &IRET_FRAME,
            // The end of a stack, or code that nobody knows anything about.
            _ => return rules.without_caller(),
        };
        let Some(frame) = frame else {
            return rules.without_caller();
        };
        rules.frame = frame;
        let frame_pointer = match self.bp_reg {
            BASE_PREV_SP => Rule::Saved(self.bp_offset),
            BASE_BP => Rule::SavedByFramePointer(self.bp_offset),
            _ => Rule::Kept,
        };
        rules.set(X86_64::RBP, frame_pointer);
        for (register, offset) in saved {
            rules.set(*register, Rule::Saved(*offset));
        }
        rules
    }

    fn frame(&self) -> Option<Frame> {
        let offset = self.sp_offset;
        Some(match self.sp_reg {
            1 => Frame::At(X86_64::RAX, offset),
            2 => Frame::At(X86_64::RDX, offset),
            3 => Frame::At(X86_64::RSP, offset),
            4 => Frame::At(X86_64::RBP, offset),
            5 => Frame::At(X86_64::RDI, offset),
            6 => Frame::At(X86_64::R10, offset),
            7 => Frame::At(X86_64::R13, offset),
            9 => Frame::Stored(X86_64::RSP, 0, u64::try_from(offset).ok()?),
            10 => Frame::Stored(X86_64::RBP, offset, 0),
            _ => return None,
        })
    }
}

/// Where the kernel's entry code saves registers (`struct pt_regs`, `arch/x86/include/asm/ptrace.h`).
const PT_REGS: [(Register, i32); 17] = [
    (X86_64::R15, 0),
    (X86_64::R14, 8),
    (X86_64::R13, 16),
    (X86_64::R12, 24),
    (X86_64::RBP, 32),
    (X86_64::RBX, 40),
    (X86_64::R11, 48),
    (X86_64::R10, 56),
    (X86_64::R9, 64),
    (X86_64::R8, 72),
    (X86_64::RAX, 80),
    (X86_64::RCX, 88),
    (X86_64::RDX, 96),
    (X86_64::RSI, 104),
    (X86_64::RDI, 112),
    (X86_64::RA, 128),
    (X86_64::RSP, 152),
];

/// What the processor itself saves.
const IRET_FRAME: [(Register, i32); 2] = [(X86_64::RA, 0), (X86_64::RSP, 24)];

impl Rules {
    /// As they are in the first instruction of a function that was called.
    fn called() -> Self {
        let mut rules = Self {
            frame: Frame::At(X86_64::RSP, 8),
            // Some of them are where they were; ORC does not say which.
            registers: [Rule::Lost; NR_REGISTERS],
        };
        rules.set(X86_64::RBP, Rule::Kept);
        rules.set(X86_64::RSP, Rule::IsFrame);
        rules.set(X86_64::RA, Rule::Saved(-8));
        rules
    }

    /// The same, at the end of the stack.
    fn without_caller(mut self) -> Self {
        self.set(X86_64::RA, Rule::Lost);
        self
    }

    fn set(&mut self, register: Register, rule: Rule) {
        if let Some(known) = self.registers.get_mut(usize::from(register.0)) {
            *known = rule;
        }
    }

    /// What has changed since the rules were those.
    fn since(&self, known: &Self) -> Vec<CallFrameInstruction> {
        let frame = (self.frame != known.frame).then(|| self.frame.instruction());
        let rules = self.registers.iter().zip(&known.registers);
        let changed = (0..).zip(rules).filter(|(_, (is, was))| is != was);
        let registers = changed.map(|(number, (is, _))| is.instruction(Register(number)));
        frame.into_iter().chain(registers).collect()
    }
}

impl Frame {
    fn instruction(self) -> CallFrameInstruction {
        match self {
            Self::At(register, offset) => CallFrameInstruction::Cfa(register, offset),
            Self::Stored(register, offset, more) => {
                let mut place = Expression::new();
                place.op_breg(register, offset.into());
                place.op_deref();
                place.op_plus_uconst(more);
                CallFrameInstruction::CfaExpression(place)
            }
        }
    }
}

impl Rule {
    fn instruction(self, register: Register) -> CallFrameInstruction {
        match self {
            Self::Lost => CallFrameInstruction::Undefined(register),
            Self::Kept => CallFrameInstruction::SameValue(register),
            Self::Saved(offset) => CallFrameInstruction::Offset(register, offset),
            Self::IsFrame => CallFrameInstruction::ValOffset(register, 0),
            Self::SavedByFramePointer(offset) => {
                let mut place = Expression::new();
                place.op_breg(X86_64::RBP, offset.into());
                CallFrameInstruction::Expression(register, place)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gimli::read::DebugFrame;
    use gimli::{BaseAddresses, CfaRule, EndianSlice, RegisterRule, UnwindContext, UnwindSection};

    use super::*;

    const TEXT: u64 = 0xffff_ffff_8100_0000;

    /// Rows at these distances from the text's start; each has the two offsets and the bits behind them.
    fn table(rows: &[(i32, i16, i16, u16)]) -> Result<Vec<u8>> {
        let ips_addr = TEXT + 0x1000;
        let (mut ips, mut entries) = (Vec::new(), Vec::new());
        for (place, (distance, sp_offset, bp_offset, bits)) in (0..).step_by(IP_LEN).zip(rows) {
            ips.extend((distance - 0x1000 - place).to_le_bytes());
            entries.extend(sp_offset.to_le_bytes());
            entries.extend(bp_offset.to_le_bytes());
            entries.extend(bits.to_le_bytes());
        }
        debug_frame(&Tables {
            header: &KNOWN_HASH,
            ips: &ips,
            ips_addr,
            entries: &entries,
        })
    }

    /// The rules at this distance from the text's start, as a debugger would read them: of the frame, of the
    /// return address and of the frame pointer; and whether the caller was interrupted.
    fn rules(
        table: &[u8],
        distance: u64,
    ) -> Option<(CfaRule<usize>, [RegisterRule<usize>; 2], bool)> {
        let mut section = DebugFrame::from(EndianSlice::new(table, LittleEndian));
        section.set_address_size(8);
        let (bases, addr) = (BaseAddresses::default(), TEXT + distance);
        let entry = section
            .fde_for_address(&bases, addr, DebugFrame::cie_from_offset)
            .ok()?;
        let mut context = UnwindContext::new();
        let row = entry
            .unwind_info_for_address(&section, &bases, &mut context, addr)
            .unwrap();
        let registers = [X86_64::RA, X86_64::RBP].map(|register| row.register(register));
        Some((row.cfa().clone(), registers, entry.is_signal_trampoline()))
    }

    const CALL: u16 = 2 << 8;
    const REGS: u16 = 3 << 8;
    const INTERRUPTS: u16 = 1 << 11;
    const SP: u16 = 3;
    const BP_SAVED: u16 = 8 << 4;

    #[test]
    fn a_function_that_pushes_is_followed_push_by_push() {
        let table = table(&[
            (0, 8, 0, CALL | SP),
            (1, 16, -16, CALL | SP | BP_SAVED),
            (9, 8, 0, CALL | SP),
            (10, 0, 0, 0),
        ])
        .unwrap();
        let at = |offset| CfaRule::RegisterAndOffset {
            register: X86_64::RSP,
            offset,
        };
        let kept = [RegisterRule::Offset(-8), RegisterRule::SameValue];
        let saved = [RegisterRule::Offset(-8), RegisterRule::Offset(-16)];
        assert_eq!(rules(&table, 0).unwrap(), (at(8), kept.clone(), false));
        assert_eq!(rules(&table, 8).unwrap(), (at(16), saved, false));
        assert_eq!(rules(&table, 9).unwrap(), (at(8), kept, false));
        assert_eq!(rules(&table, 10), None);
    }

    #[test]
    fn behind_an_interrupt_the_saved_registers_say_all_and_the_stack_may_end() {
        let table = table(&[
            (0, 8, 0, REGS | SP | INTERRUPTS),
            (4, 0, 0, 1 << 8),
            (8, 0, 0, 0),
        ])
        .unwrap();
        let (_, registers, interrupts) = rules(&table, 0).unwrap();
        assert_eq!(
            registers,
            [RegisterRule::Offset(128), RegisterRule::Offset(32)]
        );
        assert!(interrupts);
        let (_, [caller, _], interrupts) = rules(&table, 5).unwrap();
        assert_eq!(caller, RegisterRule::Undefined);
        assert!(!interrupts);
    }

    #[test]
    fn of_rows_of_one_address_the_last_holds() {
        let end_of_section = (4, 0, 0, 0);
        let table = table(&[
            (0, 8, 0, CALL | SP),
            end_of_section,
            (4, 24, 0, CALL | SP),
            (8, 0, 0, 0),
        ])
        .unwrap();
        let (frame, [caller, _], _) = rules(&table, 4).unwrap();
        let at = CfaRule::RegisterAndOffset {
            register: X86_64::RSP,
            offset: 24,
        };
        assert_eq!((frame, caller), (at, RegisterRule::Offset(-8)));
    }

    #[test]
    fn long_tables_are_cut_where_nothing_is_lost() {
        let count = i32::try_from(3 * ROWS_PER_ENTRY).unwrap();
        let rows: Vec<_> = (0..count)
            .map(|at| (at, i16::try_from(8 + 8 * (at % 7)).unwrap(), 0, CALL | SP))
            .collect();
        let table = table(&rows).unwrap();
        for at in 0..u64::try_from(count - 1).unwrap() {
            let (frame, ..) = rules(&table, at).unwrap();
            let offset = 8 + 8 * i64::try_from(at % 7).unwrap();
            assert_eq!(
                frame,
                CfaRule::RegisterAndOffset {
                    register: X86_64::RSP,
                    offset
                }
            );
        }
    }

    #[test]
    fn tables_of_another_format_are_not_guessed_at() {
        let tables = Tables {
            header: &[0; 20],
            ips: &[],
            ips_addr: TEXT,
            entries: &[],
        };
        let error = debug_frame(&tables).unwrap_err().to_string();
        assert!(
            error.contains("a format that the lab does not know"),
            "{error}"
        );
        let cut = Tables {
            header: &KNOWN_HASH,
            ips: &[0; IP_LEN],
            ..tables
        };
        assert_eq!(
            debug_frame(&cut).unwrap_err().to_string(),
            "its ORC tables are cut off"
        );
    }
}
