//! SHA-256 of a short message, many times.
//!
//! Checked against the digest in FIPS 180-4's examples ("Two-Block Message").

use super::Workload;

const ROUNDS_PER_STEP: usize = 120;
const MESSAGE: &[u8; 56] = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
const DIGEST: [u32; 8] =
    [0x248d_6a61, 0xd206_38b8, 0xe5c0_2693, 0x0c3e_6039, 0xa33c_e459, 0x64ff_2167, 0xf6ec_edd4, 0x19db_06c1];

/// Initial state: fractional parts of the square roots of the first eight primes.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Round constants: fractional parts of the cube roots of the first 64 primes.
const CONSTANTS: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// The hash; it has no state between steps.
pub(super) struct Hash;

impl Workload for Hash {
    #[inline(never)]
    fn step(&mut self) -> bool {
        (0..ROUNDS_PER_STEP).all(|_| sha256(core::hint::black_box(MESSAGE)) == DIGEST)
    }
}

#[inline(never)]
fn sha256(message: &[u8]) -> [u32; 8] {
    let mut state = INITIAL;
    let mut blocks = message.chunks_exact(64);
    for block in blocks.by_ref() {
        compress(&mut state, &words_of(block));
    }
    finish(&mut state, blocks.remainder(), message.len());
    state
}

/// Pads the rest of the message: one bit, zeros, and the length in bits.
#[inline(never)]
fn finish(state: &mut [u32; 8], rest: &[u8], len: usize) {
    let mut padded = [0; 128];
    padded[..rest.len()].copy_from_slice(rest);
    padded[rest.len()] = 0x80;
    let end = if rest.len() < 56 { 64 } else { 128 };
    padded[end - 8..end].copy_from_slice(&(len as u64 * 8).to_be_bytes());
    for block in padded[..end].chunks_exact(64) {
        compress(state, &words_of(block));
    }
}

fn words_of(block: &[u8]) -> [u32; 16] {
    core::array::from_fn(|i| {
        u32::from_be_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]])
    })
}

#[inline(never)]
fn compress(state: &mut [u32; 8], block: &[u32; 16]) {
    let schedule = expand(block);
    let mut working = *state;
    for (word, constant) in schedule.iter().zip(&CONSTANTS) {
        round(&mut working, word.wrapping_add(*constant));
    }
    for (sum, value) in state.iter_mut().zip(working) {
        *sum = sum.wrapping_add(value);
    }
}

#[inline(never)]
fn expand(block: &[u32; 16]) -> [u32; 64] {
    let mut schedule = [0_u32; 64];
    schedule[..16].copy_from_slice(block);
    for i in 16..64 {
        let (x, y) = (schedule[i - 15], schedule[i - 2]);
        let small_0 = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
        let small_1 = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
        schedule[i] =
            schedule[i - 16].wrapping_add(small_0).wrapping_add(schedule[i - 7]).wrapping_add(small_1);
    }
    schedule
}

#[inline]
fn round(working: &mut [u32; 8], input: u32) {
    let [a, b, c, d, e, f, g, h] = *working;
    let choice = (e & f) ^ (!e & g);
    let majority = (a & b) ^ (a & c) ^ (b & c);
    let first = h.wrapping_add(big_sigma(e, [6, 11, 25])).wrapping_add(choice).wrapping_add(input);
    let second = big_sigma(a, [2, 13, 22]).wrapping_add(majority);
    *working = [first.wrapping_add(second), a, b, c, d.wrapping_add(first), e, f, g];
}

#[inline]
fn big_sigma(word: u32, [x, y, z]: [u32; 3]) -> u32 {
    word.rotate_right(x) ^ word.rotate_right(y) ^ word.rotate_right(z)
}
