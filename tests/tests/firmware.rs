//! One image boots by every firmware and from every medium, and the capture is whole.
//!
//! Method: an image made as `nmiprof image --iso` makes it, booted by SeaBIOS and by OVMF as a CD, a disk and a USB
//! stick, with each source of overflows that works there; then with little memory and with more than 4 GiB. A
//! capture has to be whole and its accounting identity has to hold. Under SeaBIOS time counts instructions; under OVMF
//! it does not, because that firmware then takes a minute to start.

use nmiprof::capture::Identity;
use nmiprof::images::{EXAMPLES, Image};
use nmiprof::iso::Contents;
use nmiprof::machine::{Drive, Size};
use nmiprof_boot::multiboot2;
use nmiprof_tests::boot::archive_of;
use nmiprof_tests::firmware::{Firmware, boot_image};
use nmiprof_tests::{Boot, Completed, Skip};
use nmiprof_wire::ProcessOutcome;
use object::{Object as _, ObjectSegment as _};
use tempfile::TempDir;

const WORDS: &str = "workload=sort duration_ns=50000000 line=file";

/// An image, and the directory that goes away with it.
struct Disc {
    directory: TempDir,
}

impl Disc {
    /// Makes an image; `None` where the test is skipped.
    fn with(words: &str, module: &[u8]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("room");
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let contents = Contents { kernel: Image::Main.elf(), module, words: &words };
        let made = boot_image(directory.path(), &contents).map(|_| ());
        done_or_skipped(made)?;
        Some(Self { directory })
    }

    fn boot(&self, firmware: Firmware, drive: Drive) -> Option<Boot> {
        let file = self.directory.path().join("nmiprof.iso");
        let medium = done_or_skipped(firmware.boots(&file, drive))?;
        let boot = Boot::image(Image::Main).medium(medium);
        Some(if firmware == Firmware::Uefi { boot.without_icount() } else { boot })
    }
}

fn done_or_skipped<T>(result: Result<T, Skip>) -> Option<T> {
    result.map_err(|skip| skip.register()).ok()
}

/// Checks what holds for every sound run.
fn assert_whole(run: &Completed, what: &str) {
    let accounts = run.record.accounts();
    let total = accounts.total();
    assert_eq!(accounts.identity(), Identity::Holds, "{what}: {total:?}");
    assert!(!accounts.is_nmi_inconsistent(), "{what}: {total:?}");
    assert!(total.received > 0, "{what}: {total:?}");
    assert_eq!(total.link_lost, 0, "{what}: a file loses nothing");
    let workloads = run.record.messages().workloads();
    assert!(workloads.iter().all(|workload| workload.wrong_results == 0), "{what}");
}

#[test]
fn every_medium_boots_under_bios_and_time_counts_instructions() {
    let Some(disc) = Disc::with(WORDS, &[]) else { return };
    for drive in [Drive::Cd, Drive::Disk, Drive::UsbStick] {
        let Some(boot) = disc.boot(Firmware::Bios, drive) else { return };
        let Some(run) = boot.run().passed() else { return };
        assert_whole(&run, &format!("{drive:?}"));
        let total = run.record.accounts().total();
        assert!(
            (490..=500).contains(&total.received),
            "{drive:?}: one sample in 100,003 instructions: {total:?}"
        );
    }
}

#[test]
fn every_medium_boots_under_uefi() {
    let Some(disc) = Disc::with(WORDS, &[]) else { return };
    for drive in [Drive::Cd, Drive::Disk, Drive::UsbStick] {
        let Some(boot) = disc.boot(Firmware::Uefi, drive) else { return };
        let Some(run) = boot.run().passed() else { return };
        assert_whole(&run, &format!("{drive:?}"));
    }
}

#[test]
fn every_source_works_under_both() {
    for source in
        ["pmu=timer", "pmu=model-intel", "pmu=model-amd", "source=hpet freq=1000", "source=pit freq=1000"]
    {
        let Some(disc) = Disc::with(&format!("{WORDS} {source}"), &[]) else { return };
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            let Some(boot) = disc.boot(firmware, Drive::Cd) else { return };
            let Some(run) = boot.run().passed() else { return };
            assert_whole(&run, &format!("{source} under {firmware:?}"));
            let command_line = &run.record.run().expect("it introduced itself").command_line;
            assert!(source.split(' ').all(|word| command_line.contains(word)), "{command_line}");
        }
    }
}

#[test]
fn programs_on_the_image_run_and_nobody_writes_over_them() {
    let module = archive_of(&[vec!["sieve".to_owned(), "4".to_owned()], vec!["tree".to_owned()]]);
    let Some(disc) = Disc::with("duration_ns=10000000000 line=file period=1000003", &module) else { return };
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let Some(boot) = disc.boot(firmware, Drive::Disk) else { return };
        let Some(run) = boot.run().passed() else { return };
        assert_whole(&run, &format!("{firmware:?}"));
        let ends: Vec<_> = run.record.processes().all().iter().map(|process| process.outcome).collect();
        assert_eq!(ends, [Some(ProcessOutcome::Exited(0)); 2], "{firmware:?}");
    }
}

#[test]
fn little_memory_and_memory_with_holes_are_all_used() {
    // What a machine with so many MiB has left: without the hole for devices, which moves memory above 4 GiB.
    for (mib, runs_min) in [(32, 2), (64, 2), (128, 2), (3 << 10, 2), (6 << 10, 3)] {
        let boot = Boot::image(Image::Main).append(WORDS).memory(Size::mib(mib));
        let Some(run) = boot.run().passed() else { return };
        assert_whole(&run, &format!("{mib} MiB by -kernel"));
        assert_memory(&run, mib, runs_min);
    }
    let Some(disc) = Disc::with(WORDS, &[]) else { return };
    for (mib, runs_min) in [(64, 2), (6 << 10, 3)] {
        let Some(boot) = disc.boot(Firmware::Bios, Drive::Cd) else { return };
        let Some(run) = boot.memory(Size::mib(mib)).run().passed() else { return };
        assert_whole(&run, &format!("{mib} MiB by BIOS"));
        assert_memory(&run, mib, runs_min);
    }
    let Some(boot) = disc.boot(Firmware::Uefi, Drive::Cd) else { return };
    let Some(run) = boot.memory(Size::mib(6 << 10)).run().passed() else { return };
    assert_whole(&run, "6 GiB by UEFI");
    assert_memory(&run, 6 << 10, 3);
}

/// Checks the kernel's own words: all but a few MiB, which firmware keeps, in so many runs at least.
fn assert_memory(run: &Completed, mib: u32, runs_min: u32) {
    let logs = run.record.messages().logs();
    let line = logs.iter().find(|line| line.text.starts_with("memory: ")).expect("the kernel says so");
    let numbers: Vec<u32> = line.text.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [usable, runs] = numbers[..] else { panic!("{}", line.text) };
    assert!((mib - 12..mib).contains(&usable) && runs >= runs_min, "{mib} MiB: {}", line.text);
}

#[test]
fn too_little_memory_is_refused_with_the_reason() {
    let run = Boot::image(Image::Main).append(WORDS).memory(Size::mib(12)).run();
    let Some(verdict) = run.verdict() else { return };
    assert!(verdict.to_string().contains("memory"), "{verdict}");
}

#[test]
fn the_same_kernel_and_words_make_the_same_bytes() {
    let Some([first, second]) = both(Disc::with(WORDS, b"070701"), Disc::with(WORDS, b"070701")) else {
        return;
    };
    let [first, second] = [first, second]
        .map(|disc| std::fs::read(disc.directory.path().join("nmiprof.iso")).expect("it was made"));
    assert!(first == second, "{} and {} bytes", first.len(), second.len());
    let Some(other) = Disc::with("workload=hash", b"070701") else { return };
    assert!(first != std::fs::read(other.directory.path().join("nmiprof.iso")).expect("it was made"));
}

fn both<T>(first: Option<T>, second: Option<T>) -> Option<[T; 2]> {
    Some([first?, second?])
}

#[test]
fn loaders_find_the_header_and_the_image_leaves_low_memory_to_the_firmware() {
    const MIB: u64 = 1 << 20;
    for image in Image::ALL {
        let elf = image.elf();
        let words = elf[..multiboot2::HEADER_END_MAX].chunks_exact(4);
        let words: Vec<u32> = words.map(|word| u32::from_le_bytes(word.try_into().expect("four"))).collect();
        let at = words.iter().position(|word| *word == multiboot2::HEADER_MAGIC).expect("a header");
        let [magic, architecture, len, checksum] = words[at..at + 4] else { unreachable!("four words") };
        assert_eq!(magic.wrapping_add(architecture).wrapping_add(len).wrapping_add(checksum), 0, "{image}");
        assert!(at.is_multiple_of(2) && at * 4 + len as usize <= multiboot2::HEADER_END_MAX, "{image}");

        let file = object::File::parse(elf).expect("an ELF file");
        let base = file.segments().map(|segment| segment.address()).min().expect("segments") - MIB;
        let end = file.segments().map(|segment| segment.address() + segment.size()).max().expect("segments");
        assert!(end - base <= 7 * MIB, "{image}: under OVMF the first run of memory ends near 8 MiB");
    }
    assert!(EXAMPLES.len() > 1, "programs to put on an image");
}
