//! A search tree of words, and recursion into it: `tree [WORDS [ROUNDS]]`.
//!
//! The words come in an order that makes the tree deep. Checked: the words come out sorted, as many as went in, and the
//! sum of their lengths is the same. Exit status: 0 right, 1 wrong.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

nmiprof_programs::program!(tree::main);

#[cfg(target_os = "none")]
mod tree {
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    use nmiprof_programs::{Arguments, print};

    /// Words of one run are in ascending order: each run makes a branch of that depth.
    const RUN_WORDS: u64 = 40;

    #[derive(Default)]
    struct Tree(Option<Box<Node>>);

    struct Node {
        word: String,
        count: u64,
        lower: Tree,
        upper: Tree,
    }

    pub(crate) fn main(arguments: Arguments) -> u64 {
        let (words, rounds) = (arguments.number(1, 2_000), arguments.number(2, 20));
        let mut tree = Tree::default();
        let mut lengths = 0;
        for number in 0..words {
            let word = spell(number);
            lengths += word.len() as u64;
            insert(&mut tree, word);
        }
        let mut wrong = 0;
        for _ in 0..rounds {
            let mut walked = Vec::new();
            walk(&tree, &mut walked);
            let sum: u64 = walked.iter().map(|(word, count)| word.len() as u64 * count).sum();
            let total: u64 = walked.iter().map(|(_, count)| count).sum();
            let sorted = walked.windows(2).all(|pair| pair[0].0 < pair[1].0);
            wrong += u64::from(!sorted || total != words || sum != lengths);
        }
        print!("{words} words, {} deep, {wrong} wrong rounds", depth(&tree));
        wrong.min(1)
    }

    /// Makes a word: the start is that of its run, and the rest ascends within it.
    #[inline(never)]
    fn spell(number: u64) -> String {
        let (run, place) = (number / RUN_WORDS, number % RUN_WORDS);
        let mut random = run.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut word = String::new();
        for _ in 0..6 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.push(letter(random >> 59));
        }
        word.push(letter(place / 26));
        word.push(letter(place % 26));
        word
    }

    fn letter(number: u64) -> char {
        char::from(b'a' + (number % 26) as u8)
    }

    #[inline(never)]
    fn insert(tree: &mut Tree, word: String) {
        match &mut tree.0 {
            None => {
                let [lower, upper] = [Tree::default(), Tree::default()];
                tree.0 = Some(Box::new(Node { word, count: 1, lower, upper }));
            }
            Some(node) if word < node.word => insert(&mut node.lower, word),
            Some(node) if word > node.word => insert(&mut node.upper, word),
            Some(node) => node.count += 1,
        }
    }

    #[inline(never)]
    fn walk<'tree>(tree: &'tree Tree, words: &mut Vec<(&'tree str, u64)>) {
        if let Some(node) = &tree.0 {
            walk(&node.lower, words);
            words.push((&node.word, node.count));
            walk(&node.upper, words);
        }
    }

    #[inline(never)]
    fn depth(tree: &Tree) -> u64 {
        tree.0.as_ref().map_or(0, |node| 1 + depth(&node.lower).max(depth(&node.upper)))
    }
}
