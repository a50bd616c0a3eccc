//! Symbol files: what a debugger knows a kernel by that comes without debug information.
//!
//! What is booted has been stripped. What is left is enough: `/proc/kallsyms` has the names of all functions
//! and variables, and the image the table by which the kernel finds its callers ([`crate::orc`]). Put together
//! as an ELF file without any code, the two give names, breakpoints and backtraces; types and source lines of
//! the kernel they cannot give.

use anyhow::{Context, Result, ensure};
use object::build::elf::{Builder, SectionData, SectionId};
use object::elf;
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, SectionFlags};

use crate::orc::{self, Tables};

/// The fewest symbols that a kernel can have: fewer are a list that was cut off.
const FEWEST_SYMBOLS: usize = 1000;

/// A line of `/proc/kallsyms` that is about the kernel itself, not about a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Symbol<'a> {
    addr: u64,
    /// As nm(1) has it.
    kind: char,
    name: &'a str,
}

/// A range of addresses of the kernel.
struct Range {
    start: u64,
    end: u64,
    id: SectionId,
}

/// The names of the sections of a module that are in memory when it is loaded.
///
/// # Errors
///
/// When it is no ELF file.
pub fn sections_in_memory(module: &[u8]) -> Result<Vec<String>> {
    let module = ElfFile64::<Endianness>::parse(module).context("failed to read the module")?;
    let in_memory = module
        .sections()
        .filter(|section| is_in_memory(section.flags()));
    let names = in_memory.map(|section| section.name().map(str::to_owned));
    let names: Result<_, _> = names.collect();
    names.context("failed to read the names of the module's sections")
}

fn is_in_memory(flags: SectionFlags) -> bool {
    matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(elf::SHF_ALLOC))
}

/// Whether a kernel image brings its own debug information, and so needs no symbol file.
#[must_use]
pub fn is_complete(image: &[u8]) -> bool {
    ElfFile64::<Endianness>::parse(image)
        .is_ok_and(|image| image.section_by_name(".debug_info").is_some())
}

/// What the kernel's own unwinder goes by, as the content of a section `.debug_frame`, unless the kernel was
/// built to do without (`CONFIG_UNWINDER_ORC`).
///
/// # Errors
///
/// When the image is no ELF file, or its tables are of a format that the lab does not know.
pub fn call_frames(image: &[u8]) -> Result<Option<Vec<u8>>> {
    let tables = tables(&parse_image(image)?)?;
    tables.as_ref().map(orc::debug_frame).transpose()
}

fn parse_image(image: &[u8]) -> Result<ElfFile64<'_>> {
    ElfFile64::parse(image).context("failed to read the kernel image")
}

/// Makes a symbol file out of a kernel image, its [`call_frames`], and what a guest that booted it has in
/// `/proc/kallsyms`, without an offset between image and guest (`nokaslr`).
///
/// # Errors
///
/// When the image is no ELF file, or the list is cut off or hides the addresses.
pub fn make(image: &[u8], frames: Option<Vec<u8>>, kallsyms: &str) -> Result<Vec<u8>> {
    let image = parse_image(image)?;
    let symbols = parse(kallsyms)?;
    let mut builder = Builder::new(Endianness::Little, true);
    builder.header.e_type = elf::ET_EXEC;
    builder.header.e_machine = elf::EM_X86_64;
    let ranges = copy_ranges(&image, &mut builder);
    add_symbols(&symbols, &ranges, &mut builder)?;
    if let Some(frames) = frames {
        let section = builder.sections.add();
        section.name = b".debug_frame"[..].into();
        section.sh_type = elf::SHT_PROGBITS;
        section.sh_addralign = 8;
        section.data = SectionData::Data(frames.into());
    }
    for (name, kind, data) in [
        (".symtab", elf::SHT_SYMTAB, SectionData::Symbol),
        (".strtab", elf::SHT_STRTAB, SectionData::String),
        (".shstrtab", elf::SHT_STRTAB, SectionData::SectionString),
    ] {
        let section = builder.sections.add();
        section.name = name.as_bytes().into();
        section.sh_type = kind;
        section.sh_addralign = if kind == elf::SHT_SYMTAB { 8 } else { 1 };
        section.data = data;
    }
    let mut file = Vec::new();
    let written = builder.write(&mut file);
    written.context("failed to write the kernel's symbols as an ELF file")?;
    Ok(file)
}

/// The sections that are in memory, without what is in them.
fn copy_ranges(image: &ElfFile64<'_>, builder: &mut Builder<'_>) -> Vec<Range> {
    let mut ranges = Vec::new();
    for section in image.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
            continue;
        };
        let (start, len) = (section.address(), section.size());
        if !is_in_memory(section.flags()) || start == 0 || len == 0 {
            continue;
        }
        let copy = builder.sections.add();
        copy.name = section.name_bytes().unwrap_or_default().to_owned().into();
        copy.sh_type = elf::SHT_NOBITS;
        copy.sh_flags = sh_flags;
        copy.sh_addr = start;
        copy.sh_addralign = 1;
        copy.data = SectionData::UninitializedData(len);
        let end = start + len;
        ranges.push(Range {
            start,
            end,
            id: copy.id(),
        });
    }
    ranges
}

fn add_symbols<'a>(
    symbols: &[Symbol<'a>],
    ranges: &[Range],
    builder: &mut Builder<'a>,
) -> Result<()> {
    let mut count = 0;
    for symbol in symbols {
        let within = |range: &&Range| (range.start..range.end).contains(&symbol.addr);
        // Constants, and what marks the ends of sections, are in none.
        let Some(range) = ranges.iter().find(within) else {
            continue;
        };
        let bind = match symbol.kind {
            kind if kind.is_ascii_uppercase() => elf::STB_GLOBAL,
            _ => elf::STB_LOCAL,
        };
        let kind = match symbol.kind.to_ascii_lowercase() {
            't' | 'w' => elf::STT_FUNC,
            _ => elf::STT_OBJECT,
        };
        let new = builder.symbols.add();
        new.name = symbol.name.as_bytes().into();
        new.section = Some(range.id);
        new.st_value = symbol.addr;
        new.set_st_info(bind, kind);
        count += 1;
    }
    ensure!(
        count >= FEWEST_SYMBOLS,
        "{count} of {} symbols of /proc/kallsyms are in the kernel image: they are not of the same kernel, or \
         the kernel was not booted with nokaslr",
        symbols.len()
    );
    Ok(())
}

/// The kernel's tables of call frames, if it has them.
fn tables<'a>(image: &ElfFile64<'a>) -> Result<Option<Tables<'a>>> {
    let data = |name: &str| {
        let section = image.section_by_name(name)?;
        Some((section.address(), section.data()))
    };
    let found = (
        data(".orc_header"),
        data(".orc_unwind_ip"),
        data(".orc_unwind"),
    );
    let (Some((_, header)), Some((ips_addr, ips)), Some((_, entries))) = found else {
        return Ok(None);
    };
    let read = || {
        Ok::<_, object::Error>(Tables {
            header: header?,
            ips: ips?,
            ips_addr,
            entries: entries?,
        })
    };
    read()
        .map(Some)
        .context("failed to read the ORC tables of the kernel image")
}

/// Reads `/proc/kallsyms` (`s_show()`, `kernel/kallsyms.c`): address, kind, name, and the module if it is in one.
fn parse(kallsyms: &str) -> Result<Vec<Symbol<'_>>> {
    let mut symbols = Vec::new();
    for line in kallsyms.lines() {
        let mut words = line.split_whitespace();
        let symbol = || {
            let addr = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = words.next()?.chars().next()?;
            let name = words.next()?;
            Some((Symbol { addr, kind, name }, words.next().is_some()))
        };
        let (symbol, of_module) = { symbol }()
            .with_context(|| format!("failed to read /proc/kallsyms: no symbol in {line:?}"))?;
        if !of_module {
            symbols.push(symbol);
        }
    }
    ensure!(
        symbols.len() >= FEWEST_SYMBOLS,
        "/proc/kallsyms is cut off: it has {} symbols",
        symbols.len()
    );
    ensure!(
        symbols.iter().any(|symbol| symbol.addr != 0),
        "/proc/kallsyms hides the addresses: the kernel runs with kptr_restrict=2"
    );
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use object::ObjectSymbol;

    use super::*;

    const TEXT: u64 = 0xffff_ffff_8100_0000;

    /// An image with code at [`TEXT`], and nothing else.
    fn image() -> Vec<u8> {
        let mut builder = Builder::new(Endianness::Little, true);
        builder.header.e_type = elf::ET_EXEC;
        builder.header.e_machine = elf::EM_X86_64;
        let section = builder.sections.add();
        section.name = b".text"[..].into();
        section.sh_type = elf::SHT_NOBITS;
        section.sh_flags = elf::SHF_ALLOC | elf::SHF_EXECINSTR;
        section.sh_addr = TEXT;
        section.data = SectionData::UninitializedData(0x10_0000);
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = elf::SHT_STRTAB;
        names.data = SectionData::SectionString;
        let mut file = Vec::new();
        builder.write(&mut file).unwrap();
        file
    }

    fn kallsyms(first: &str) -> String {
        let rest = (0..FEWEST_SYMBOLS as u64).map(|n| format!("{:x} t f{n}\n", TEXT + 0x100 + n));
        first.to_owned() + &rest.collect::<String>()
    }

    #[test]
    fn symbols_of_the_kernel_get_into_the_file_and_those_of_modules_do_not() {
        let lines = "ffffffff81000010 T vm_insert_page\n\
                     ffffffff81000020 t fault\t[mmapdemo]\n\
                     0000000000000000 A fixed_percpu_data\n";
        let file = make(&image(), None, &kallsyms(lines)).unwrap();
        let file = ElfFile64::<Endianness>::parse(file.as_slice()).unwrap();
        let find = |name| file.symbols().find(|symbol| symbol.name() == Ok(name));
        let symbol = find("vm_insert_page").unwrap();
        assert_eq!(symbol.address(), TEXT + 0x10);
        assert!(symbol.is_global() && find("f7").unwrap().is_local());
        assert!(find("fault").is_none() && find("fixed_percpu_data").is_none());
        let text = file.section_by_name(".text").unwrap();
        assert_eq!((text.address(), text.size()), (TEXT, 0x10_0000));
        assert!(!is_complete(&image()));
    }

    #[test]
    fn a_list_that_is_of_no_use_is_refused() {
        let of = |kallsyms: &str| make(&image(), None, kallsyms).unwrap_err().to_string();
        assert!(of("ffffffff81000010 T f\n").contains("cut off"));
        assert!(of(&"0000000000000000 T f\n".repeat(FEWEST_SYMBOLS)).contains("kptr_restrict"));
        assert!(of(&"ffffffffa1000000 T f\n".repeat(FEWEST_SYMBOLS)).contains("nokaslr"));
        assert!(of("what?\n").contains("no symbol in \"what?\""));
    }
}
