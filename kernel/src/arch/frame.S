// The caller-saved registers on a stack (type `CallerSaved`), for every entry that calls Rust.

.ifndef FRAME_MACROS
.set FRAME_MACROS, 1

.macro push_caller_saved
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
.endm

.macro pop_caller_saved
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
.endm

.endif
