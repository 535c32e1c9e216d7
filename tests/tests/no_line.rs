//! A machine without a serial line says so on its screen, and does nothing else.
//!
//! Method: machines with no serial port, and one whose port answers but never sends (a device that reads as zero lies
//! over its line status register); the text screen is read from memory, and a framebuffer is compared, pixel for pixel,
//! with the same text drawn here.

use std::thread;
use std::time::{Duration, Instant};

use nmiprof::images::Image;
use nmiprof::iso::Contents;
use nmiprof::machine::Drive;
use nmiprof_boot::Screen;
use nmiprof_boot::screen::Memory;
use nmiprof_tests::firmware::{Firmware, boot_image};
use nmiprof_tests::monitor::{Monitor, Picture, Session};
use nmiprof_tests::{Boot, Verdict, qemu};

const TITLE: &str = "nmiprof: there is no serial line, so there is no profile";
const PATIENCE: Duration = Duration::from_secs(60);

/// Boots a machine with a screen and looks at it until `look` finds something.
fn looked_at<T: Send>(boot: Boot, look: impl FnMut(&mut Session<'_>) -> Option<T> + Send) -> Option<T> {
    if let Err(skip) = qemu() {
        skip.register();
        return None;
    }
    let directory = tempfile::tempdir().expect("room");
    let monitor = Monitor::in_directory(directory.path());
    let [flag, value] = monitor.qemu_args();
    let boot = boot.without_icount().without_exit_device().qemu_arg("-vga").qemu_arg("std");
    let boot = boot.qemu_arg(&flag).qemu_arg(&value).limit(2 * PATIENCE);
    thread::scope(|scope| {
        let machine = scope.spawn(|| boot.run());
        let mut session = monitor.connect();
        let seen = poll(&mut session, look);
        session.quit();
        let run = machine.join().expect("the harness does not panic");
        assert!(!matches!(run.verdict, Verdict::Pass), "nothing was profiled");
        assert_eq!(run.record().map_or(0, |record| record.samples()), 0);
        Some(seen)
    })
}

fn poll<T>(session: &mut Session<'_>, mut look: impl FnMut(&mut Session<'_>) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look(session) {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "it never came");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Returns the whole text once the kernel has written the last word of it.
fn halted_text(session: &mut Session<'_>) -> Option<String> {
    Some(session.text_screen()).filter(|text| text.ends_with("Halted."))
}

#[test]
fn a_machine_without_a_port_says_so_on_the_text_screen() {
    let boot = Boot::image(Image::Main).without_serial_port();
    let Some(text) = looked_at(boot, halted_text) else { return };
    assert!(text.starts_with(TITLE), "{text}");
    assert!(text.contains("\nNothing answers at COM1 (0x3f8).\n"), "{text}");
    assert!(text.contains("\nSamples leave by that port and by no other way."), "{text}");
}

#[test]
fn a_port_that_never_sends_is_told_apart_from_none() {
    let dead = ["-chardev", "null,id=dead", "-device", "isa-debugcon,iobase=0x3fd,readback=0,chardev=dead"];
    let boot = dead.into_iter().fold(Boot::image(Image::Main), |boot, arg| boot.qemu_arg(arg));
    let Some(text) = looked_at(boot, halted_text) else { return };
    assert!(text.starts_with(TITLE), "{text}");
    assert!(
        text.contains("\nA serial port answers at COM1 (0x3f8), but no byte comes through it.\n"),
        "{text}"
    );
}

#[test]
fn a_machine_with_a_framebuffer_says_so_in_pixels_under_bios_and_uefi() {
    let directory = tempfile::tempdir().expect("room");
    let contents = Contents { kernel: Image::Main.elf(), module: &[], words: &[] };
    let made = boot_image(directory.path(), &contents);
    let media = made.and_then(|file| {
        [Firmware::Bios, Firmware::Uefi]
            .into_iter()
            .map(|firmware| firmware.boots(&file, Drive::Cd))
            .collect()
    });
    let media: Vec<_> = match media {
        Ok(media) => media,
        Err(skip) => return skip.register(),
    };
    for medium in media {
        let boot = Boot::image(Image::Main).medium(medium).without_serial_port();
        looked_at(boot, |session| shows_title(&session.picture()).then_some(()));
    }
}

/// Tells whether the first row of text on a picture is the title, and the next one is empty.
fn shows_title(picture: &Picture) -> bool {
    const TITLE_AND_EMPTY_ROWS: usize = 40;
    let side = |pixels: usize| u32::try_from(pixels).expect("a screen");
    let (width, height) = (side(picture.width), side(picture.height));
    let screen = Screen::pixels(0, width * 3, width, height, 24);
    let mut drawn = Drawn(vec![0; picture.pixels.len()]);
    screen.expect("a sound screen").show(TITLE, &mut drawn);
    let rows = TITLE_AND_EMPTY_ROWS * picture.width * 3;
    drawn.0.get(..rows) == picture.pixels.get(..rows)
}

/// A picture under construction.
struct Drawn(Vec<u8>);

impl Memory for Drawn {
    fn write(&mut self, offset: u64, byte: u8) {
        self.0[usize::try_from(offset).expect("on the screen")] = byte;
    }
}
