//! Tests with a stub that answers by a script.

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// Answers one request after the other by `script`, byte for byte, and closes at the next one.
fn stub(script: Vec<Vec<u8>>) -> UnixStream {
    let (near, mut far) = UnixStream::pair().expect("a socket");
    thread::spawn(move || {
        for answer in script {
            wait_for_request(&mut far);
            far.write_all(&answer).expect("open");
        }
        wait_for_request(&mut far);
    });
    near
}

fn wait_for_request(far: &mut UnixStream) {
    let mut request = [0; 256];
    loop {
        let len = far.read(&mut request).unwrap_or_default();
        if len == 0 || request[..len].contains(&b'#') {
            return;
        }
    }
}

fn answer(data: &str) -> Vec<u8> {
    [b"+".to_vec(), encode(data)].concat()
}

/// Creates a client whose first question is answered already.
fn client(answers: &[Vec<u8>]) -> Client {
    let script = [&[answer("T05")], answers].concat();
    Client::over(stub(script), Instant::now() + SOON).expect("it answers")
}

#[test]
fn a_breakpoint_is_set_and_hit_and_then_the_target_ends() {
    let mut client = client(&[answer("OK"), answer("T05"), answer("W00")]);
    client.set_breakpoint(0xffff).expect("OK");
    assert_eq!(client.resume().expect("a stop"), Stopped::Trapped);
    assert_eq!(client.resume().expect("a stop"), Stopped::Exited);
}

#[test]
fn a_closed_stub_ends_a_run_and_fails_everything_else() {
    assert_eq!(client(&[]).resume().expect("the machine is gone"), Stopped::Exited);
    assert!(matches!(client(&[]).registers(), Err(GdbError::Closed)));
}

#[test]
fn damage_is_asked_for_again_but_not_for_ever() {
    client(&[b"+$OK#00$OK#9a".to_vec()]).set_breakpoint(1).expect("the second time");
    let noise = b"$a#00".repeat(5);
    assert!(matches!(client(&[noise]).set_breakpoint(1), Err(GdbError::Noise)));
}

#[test]
fn registers_and_words_are_little_endian_and_of_the_right_length() {
    let mut block = "00".repeat(17 * 8).into_bytes();
    block[2 * RIP_OFFSET..2 * RIP_OFFSET + 2].copy_from_slice(b"7f");
    block[2 * RBP_OFFSET..2 * RBP_OFFSET + 2].copy_from_slice(b"ee");
    block[2 * RSP_OFFSET + 14..2 * RSP_OFFSET + 16].copy_from_slice(b"ff");
    let registers = Registers::parse(&block).expect("whole");
    assert_eq!(registers, Registers { rip: 0x7f, rsp: 0xff << 56, rbp: 0xee });
    assert_eq!(Registers::parse(&block[..block.len() - 1]), None);
    let mut words = client(&[answer("0102000000000000"), answer("01"), answer("E14")]);
    assert_eq!(words.words::<1>(0).expect("8 bytes"), [0x201]);
    assert!(matches!(words.words::<1>(0), Err(GdbError::Answer { .. })), "too short");
    assert!(matches!(words.words::<1>(0), Err(GdbError::Answer { .. })), "an error");
}

#[test]
fn silence_ends_at_the_deadline() {
    let (near, _far) = UnixStream::pair().expect("a socket");
    let error = Client::over(near, Instant::now() + Duration::from_millis(50)).expect_err("silence");
    assert!(matches!(error, GdbError::Deadline));
}
