//! Everything that a program can do to take the kernel down: `hostile ATTACK [NUMBER...]`.
//!
//! Exit status: 0 where the attack is one that a program survives and everything was as it should be, 1 where
//! something was not, 2 for an attack that it does not know. Most attacks are not survived.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod attacks;
#[cfg(target_os = "none")]
mod fuzz;
#[cfg(target_os = "none")]
mod registers;

nmiprof_programs::program!(hostile::main);

#[cfg(target_os = "none")]
mod hostile {
    use nmiprof_programs::{Arguments, print};

    use super::{attacks, fuzz, registers};

    pub(crate) fn main(arguments: Arguments) -> u64 {
        let number = |index| arguments.number(index, 0);
        match arguments.get(1).unwrap_or("none") {
            "read" => attacks::read(number(2)),
            "write" => attacks::write(number(2)),
            "jump" => attacks::jump(number(2)),
            "jump-on" => attacks::jump_on(number(2), number(3)),
            "overflow" => attacks::overflow(0),
            "instruction" => attacks::instruction(number(2)),
            "step" => attacks::step(),
            "loop" => attacks::spin(),
            "registers" => registers::check(number(2)),
            "flags" => registers::check_flags(number(2)),
            "selectors" => registers::check_selectors(number(2)),
            "stack-pointers" => registers::check_stack_pointers(number(2), number(3), number(4)),
            "pointers" => fuzz::pointers(),
            "eat" => fuzz::eat(),
            "fuzz" => fuzz::calls(number(2), number(3)),
            attack => {
                print!("there is no attack `{attack}`");
                2
            }
        }
    }
}
