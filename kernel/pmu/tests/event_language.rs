//! Goal: a text means the events that perf would take it for, and a wrong text is refused where it is wrong, with
//! what would be right.
//!
//! Method: whole lists are parsed and their events compared; wrong ones are compared by place, piece and message.
//! Random texts, made of the pieces of the language so that many are nearly right, must not panic, and whatever is
//! accepted must be accepted again when it is written down anew. A failure prints its seed and the shrunken text.

use nmiprof_pmu::CoreKind;
use nmiprof_pmu::event::{
    EVENTS_MAX, Event, EventKind, Fields, GenericEvent, Malformed, ParseError, Privilege, Rate,
    generic_events, parse_list,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const USER: Privilege = Privilege { user: true, kernel: false };
const KERNEL: Privilege = Privilege { user: false, kernel: true };

fn one(text: &str) -> Event<'_> {
    let events = parse_list(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(events.len(), 1, "{text}");
    events[0]
}

fn error(text: &str) -> ParseError<'_> {
    match parse_list(text) {
        Ok(events) => panic!("{text} was taken for {:?}", &events[..]),
        Err(error) => error,
    }
}

fn message(text: &str) -> String {
    error(text).to_string()
}

fn nearest(text: &str) -> Option<&'static str> {
    match error(text).cause {
        Malformed::UnknownEvent { nearest } | Malformed::UnknownTerm { nearest } => nearest,
        cause => panic!("{text}: {cause:?}"),
    }
}

fn displayed(text: &str) -> Vec<String> {
    let events = parse_list(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    events.iter().map(ToString::to_string).collect()
}

#[test]
fn every_name_and_alias_is_its_event() {
    for &event in generic_events() {
        for name in [event.name()].iter().chain(event.aliases()) {
            assert_eq!(one(name).kind, EventKind::Generic(event));
            assert_eq!(GenericEvent::from_name(name), Some(event));
            assert_eq!(one(name).to_string(), event.name());
        }
        assert!(!event.description().is_empty());
    }
}

#[test]
fn the_names_are_those_of_perf() {
    use GenericEvent::*;
    let pairs = [
        ("cycles", Cycles),
        ("cpu-cycles", Cycles),
        ("instructions", Instructions),
        ("ref-cycles", RefCycles),
        ("bus-cycles", BusCycles),
        ("branches", Branches),
        ("branch-instructions", Branches),
        ("branch-misses", BranchMisses),
        ("cache-references", CacheReferences),
        ("cache-misses", CacheMisses),
        ("stalled-cycles-frontend", StalledCyclesFrontend),
        ("idle-cycles-frontend", StalledCyclesFrontend),
        ("stalled-cycles-backend", StalledCyclesBackend),
        ("idle-cycles-backend", StalledCyclesBackend),
        ("slots", Slots),
    ];
    for (name, event) in pairs {
        assert_eq!(one(name).kind, EventKind::Generic(event), "{name}");
    }
    let names = generic_events().iter().map(|event| 1 + event.aliases().len()).sum::<usize>();
    assert_eq!(names, pairs.len());
}

#[test]
fn an_event_without_letters_counts_everywhere() {
    let event = one("cycles");
    let expected = Event {
        text: "cycles",
        name: None,
        kind: EventKind::Generic(GenericEvent::Cycles),
        core_kind: None,
        privilege: Privilege::ALL,
        rate: None,
        group: 0,
    };
    assert_eq!(event, expected);
}

#[test]
fn letters_restrict_an_event_and_both_together_do_not() {
    assert_eq!(one("cycles:u").privilege, USER);
    assert_eq!(one("cycles:k").privilege, KERNEL);
    assert_eq!(one("cycles:uk").privilege, Privilege::ALL);
    assert_eq!(one("cycles:ku").privilege, Privilege::ALL);
    assert_eq!(one("r1c0:u").privilege, USER);
    assert_eq!(one("cpu/event=0x3c/k").privilege, KERNEL);
    assert_eq!(one("cpu/event=0x3c/:k").privilege, KERNEL);
    assert_eq!(one("cycles//u").privilege, USER);
}

#[test]
fn the_letters_of_a_group_add_to_those_of_its_events() {
    let privileges = |text| parse_list(text).unwrap().iter().map(|event| event.privilege).collect::<Vec<_>>();
    assert_eq!(privileges("{cycles,branches:k}:u"), [USER, Privilege::ALL]);
    assert_eq!(privileges("{cycles:u,branches:uk}:u"), [USER, Privilege::ALL]);
    assert_eq!(privileges("{cycles,branches}:uk"), [Privilege::ALL, Privilege::ALL]);
    assert_eq!(privileges("branches,{cycles}:k,branches"), [Privilege::ALL, KERNEL, Privilege::ALL]);
}

#[test]
fn events_in_braces_share_a_group_and_others_have_one_each() {
    let events = parse_list("cycles,{instructions,branches:u},r1c0,{cpu/event=1,umask=2/}").unwrap();
    let groups = events.iter().map(|event| event.group).collect::<Vec<_>>();
    assert_eq!(groups, [0, 1, 1, 2, 3]);
    let texts = events.iter().map(|event| event.text).collect::<Vec<_>>();
    assert_eq!(texts, ["cycles", "instructions", "branches:u", "r1c0", "cpu/event=1,umask=2/"]);
}

#[test]
fn raw_events_are_hexadecimal() {
    assert_eq!(one("r1c0").kind, EventKind::Raw(0x1c0));
    assert_eq!(one("r0x1C0").kind, EventKind::Raw(0x1c0));
    assert_eq!(one("rffffffffffffffff").kind, EventKind::Raw(u64::MAX));
    assert_eq!(error("r10000000000000000").cause, Malformed::TooLarge { max: u64::MAX });
    assert!(matches!(error("r").cause, Malformed::UnknownEvent { .. }));
    assert!(matches!(error("r0x").cause, Malformed::UnknownEvent { .. }));
    assert!(matches!(error("R1c0").cause, Malformed::UnknownEvent { .. }));
}

#[test]
fn fields_are_taken_with_and_without_values() {
    let fields = Fields { event: 0x3c, umask: 0, cmask: 1, inv: true, edge: true, any: false };
    let kind = EventKind::Fields(fields);
    assert_eq!(one("cpu/event=0x3c,umask=0,cmask=1,inv,edge/").kind, kind);
    assert_eq!(one("cpu/edge=1,inv=0x1,cmask=0x1,event=60,any=0/").kind, kind);
    assert_eq!(one("cpu/event=0xfff/").kind, EventKind::Fields(Fields { event: 0xfff, ..Fields::default() }));
    let any = Fields { event: 1, any: true, ..Fields::default() };
    assert_eq!(one("cpu/event=1,any/").kind, EventKind::Fields(any));
    assert_eq!(one("cpu/config=0x1a8/").kind, EventKind::Raw(0x1a8));
}

#[test]
fn fields_go_where_the_register_has_them() {
    let bits = |text| match one(text).kind {
        EventKind::Fields(fields) => fields.select(),
        kind => panic!("{kind:?}"),
    };
    assert_eq!(bits("cpu/event=0xc0/"), 0xc0);
    assert_eq!(bits("cpu/event=0x1c0/"), 1 << 32 | 0xc0);
    assert_eq!(bits("cpu/event=0,umask=0xff/"), 0xff00);
    assert_eq!(bits("cpu/event=0,edge/"), 1 << 18);
    assert_eq!(bits("cpu/event=0,any/"), 1 << 21);
    assert_eq!(bits("cpu/event=0,inv/"), 1 << 23);
    assert_eq!(bits("cpu/event=0,cmask=255/"), 0xff00_0000);
}

#[test]
fn a_unit_takes_a_generic_name_and_knows_its_cores() {
    let event = one("cpu_core/instructions,period=1000/u");
    assert_eq!(event.kind, EventKind::Generic(GenericEvent::Instructions));
    assert_eq!((event.core_kind, event.privilege), (Some(CoreKind::Core), USER));
    assert_eq!(event.rate, Some(Rate::Period(1000)));
    assert_eq!(one("cpu_atom/event=0xc0/").core_kind, Some(CoreKind::Atom));
    assert_eq!(one("cpu/cpu-cycles/").core_kind, None);
}

#[test]
fn any_event_can_have_a_rate_and_a_name() {
    assert_eq!(one("cycles/period=1000/").rate, Some(Rate::Period(1000)));
    assert_eq!(one("cycles/freq=0x10/").rate, Some(Rate::Frequency(16)));
    assert_eq!(one("r1c0/freq=99/").rate, Some(Rate::Frequency(99)));
    let event = one("cpu/event=0x3c,name=my_event,freq=1/");
    assert_eq!((event.name, event.rate), (Some("my_event"), Some(Rate::Frequency(1))));
}

#[test]
fn reports_name_an_event_as_perf_does() {
    assert_eq!(displayed("instructions:u"), ["instructions:u"]);
    assert_eq!(displayed("cpu-cycles:k"), ["cycles:k"]);
    assert_eq!(displayed("cycles:uk"), ["cycles"]);
    assert_eq!(displayed("cycles/period=3/u"), ["cycles:u"]);
    assert_eq!(displayed("r1c0:u"), ["r1c0:u"]);
    assert_eq!(displayed("r1c0/freq=3/"), ["r1c0"]);
    // The two next are in perf's own tests: tools/perf/tests/parse-events.c.
    assert_eq!(displayed("cpu/config=2/u"), ["cpu/config=2/u"]);
    assert_eq!(displayed("cpu/config=1,name=krava/u"), ["krava"]);
    assert_eq!(
        displayed("{cpu/event=1/,cpu/cycles/:u,cycles}:u"),
        ["cpu/event=1/u", "cpu/cycles/u", "cycles:u"]
    );
}

#[test]
fn typing_errors_are_met_with_the_right_name() {
    for (typed, meant) in [
        ("intructions", "instructions"),
        ("instuctions", "instructions"),
        ("instr", "instructions"),
        ("INSTR", "instructions"),
        ("ref_cyc", "ref-cycles"),
        ("cylces", "cycles"),
        ("cycle", "cycles"),
        ("Cycles", "cycles"),
        ("cpu_cycles", "cpu-cycles"),
        ("branch_misses", "branch-misses"),
        ("branch-miss", "branch-misses"),
        ("branchs", "branches"),
        ("cache-miss", "cache-misses"),
        ("cache-ref", "cache-references"),
        ("ref_cycles", "ref-cycles"),
        ("stalled-cycles-front", "stalled-cycles-frontend"),
        ("stalled-cycles-back", "stalled-cycles-backend"),
        ("idle-cycles-fronted", "idle-cycles-frontend"),
        ("slot", "slots"),
    ] {
        assert_eq!(nearest(typed), Some(meant), "{typed}");
    }
    for (typed, meant) in [
        ("evnet", "event"),
        ("umsk", "umask"),
        ("cmsk", "cmask"),
        ("perid", "period"),
        ("frequency", "freq"),
        ("conf", "config"),
    ] {
        let text = format!("cpu/{typed}=1/");
        let text: &'static str = text.leak();
        assert_eq!(nearest(text), if typed == "frequency" { None } else { Some(meant) }, "{typed}");
    }
}

#[test]
fn a_word_that_is_like_no_name_gets_no_suggestion() {
    for typed in
        ["foo", "x", "xyzzy", "tables", "ipc", "tlb", "c", "cy", "slots-and-slots-and-slots-and-slots"]
    {
        assert_eq!(nearest(typed), None, "{typed}");
    }
}

#[test]
fn an_error_says_where_it_is_and_what_was_found() {
    for (text, position_bytes, found) in [
        ("cycles,intructions", 7, "intructions"),
        ("{cycles,foo:u}", 8, "foo"),
        ("cycles:ux", 8, "x"),
        ("cpu/event=0x3c,umsk=1/", 15, "umsk"),
        ("cpu/event=0x1000/", 10, "0x1000"),
        ("cycles/period=x/", 14, "x"),
        ("cycles,", 7, ""),
        ("", 0, ""),
        ("cycles,,cycles", 7, ","),
        ("{cycles", 7, ""),
        ("{}", 1, "}"),
        ("{{cycles}}", 1, "{"),
        ("cycles}", 6, "}"),
        ("cycles/period=1", 15, ""),
        ("cpu/event=1", 11, ""),
        ("cycles:", 7, ""),
        ("{cycles}:", 9, ""),
        ("cycles:é", 7, "é"),
        ("é", 0, "é"),
    ] {
        let error = error(text);
        assert_eq!((error.position_bytes, error.found), (position_bytes, found), "{text}: {error}");
    }
}

#[test]
fn messages_say_what_would_be_right() {
    assert_eq!(message("cycles,cylces"), "at byte 7: `cylces` is no event; did you mean `cycles`?");
    assert_eq!(message("{cycles"), "at byte 7: `,` or `}` expected, nothing found");
    assert_eq!(message("cycles}"), "at byte 6: `,` or the end expected, `}` found");
    assert_eq!(message("cpu/umask=256/"), "at byte 10: `256` is too large: at most 0xff fits");
    assert_eq!(message("cycles:uu"), "at byte 8: `u` stands twice");
    assert_eq!(message("cycles/period=0/"), "at byte 14: a number above 0 expected, `0` found");
    assert_eq!(
        message("cycles:p"),
        "at byte 7: `p` can't be had: samples are not precise: leave it out, and mind the skid"
    );
    assert!(message("cpu").contains("cpu/event=0x3c/"));
    assert!(message("cpu//").contains("cpu/event=0x3c/"));
    assert!(message("cpu/period=3/").contains("cpu/event=0x3c/"));
    assert!(message("xyzzy").contains("`r1c0`"));
    assert!(message("cpu/xyzzy/").contains("umask"));
}

#[test]
fn what_a_terminal_would_obey_is_escaped_and_bounded() {
    assert!(message("\u{1b}[31mred").contains("\\u{1b}"));
    let long = "y".repeat(100_000);
    let message = message(&long);
    assert!(message.len() < 200, "{message}");
    assert!(matches!(error("cpu/event=1,name=a\u{7}b/").cause, Malformed::Expected { .. }));
    assert!(matches!(error("cpu/event=1,name=/").cause, Malformed::Expected { .. }));
}

#[test]
fn the_letters_of_perf_that_can_not_be_had_are_refused_with_a_way_out() {
    for letter in "hpPGHDSIWebRX".chars() {
        let text: &'static str = format!("cycles:{letter}").leak();
        let error = error(text);
        assert!(matches!(error.cause, Malformed::Refused { .. }), "{error}");
        assert_eq!((error.position_bytes, error.found), (7, &text[7..]));
    }
    assert_eq!(error("cycles:pp").found, "p");
    assert_eq!(error("cycles:up").position_bytes, 8);
    for letter in "xUK1".chars() {
        let text: &'static str = format!("cycles:{letter}").leak();
        assert_eq!(error(text).cause, Malformed::UnknownModifier);
    }
}

#[test]
fn events_and_terms_of_perf_that_can_not_be_had_are_refused_with_a_way_out() {
    for text in [
        "cpu-clock",
        "task-clock:u",
        "page-faults",
        "cs",
        "L1-dcache-load-misses",
        "dTLB-loads",
        "cpu/event=1,config1=3/",
        "cycles/call-graph=fp/",
        "cycles/event=3/",
        "cycles/umask=3/",
        "grp{cycles,branches}",
        "cpu/event=1,config=3/",
        "cpu/config=1,event=3/",
        "cpu/instructions,cmask=1/",
        "cpu/instructions,branches/",
        "cycles/period=1,freq=1/",
    ] {
        assert!(matches!(error(text).cause, Malformed::Refused { .. }), "{text}: {}", message(text));
    }
}

#[test]
fn a_term_that_stands_twice_is_refused() {
    for text in [
        "cpu/event=1,event=1/",
        "cycles/period=1,period=1/",
        "cpu/event=1,inv,inv=0/",
        "cpu/config=1,config=1/",
    ] {
        assert_eq!(error(text).cause, Malformed::Twice, "{text}");
    }
}

#[test]
fn values_are_checked_against_their_fields() {
    for (text, max) in [
        ("cpu/event=0x1000/", 0xfff),
        ("cpu/umask=0x100/", 0xff),
        ("cpu/cmask=256/", 0xff),
        ("cpu/inv=2/", 1),
        ("cpu/edge=99999999999999999999999/", 1),
        ("cycles/period=18446744073709551616/", u64::MAX),
    ] {
        assert_eq!(error(text).cause, Malformed::TooLarge { max }, "{text}");
    }
    for text in [
        "cpu/event/",
        "cpu/event=/",
        "cpu/event=0x/",
        "cpu/event=3c/",
        "cpu/event=-1/",
        "cpu/event=+1/",
        "cycles/name/",
    ] {
        assert!(matches!(error(text).cause, Malformed::Expected { .. }), "{text}: {}", message(text));
    }
    assert_eq!(one("cycles/period=18446744073709551615/").rate, Some(Rate::Period(u64::MAX)));
}

#[test]
fn a_list_has_sixteen_events_and_no_more() {
    let full = vec!["cycles"; EVENTS_MAX].join(",");
    assert_eq!(parse_list(&full).unwrap().len(), EVENTS_MAX);
    let too_long = format!("{full},r1");
    assert_eq!(error(&too_long).cause, Malformed::TooManyEvents);
    assert_eq!(error(&too_long).found, "r1");
    let endless = format!("{{{}}}", vec!["cycles"; 10_000].join(","));
    assert_eq!(error(&endless).cause, Malformed::TooManyEvents);
    let terms = format!("cpu/{}/", vec!["inv"; 10_000].join(","));
    assert_eq!(error(&terms).cause, Malformed::Twice);
}

/// A piece of the language, or something that is none.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "cycles",
            "instructions",
            "slots",
            "cpu",
            "cpu_core",
            "cpu-cycles",
            "r1c0",
            "rff",
            "event",
            "umask",
            "config",
            "inv",
            "period",
            "freq",
            "name",
            "u",
            "k",
            "uk",
            "p",
            "x",
            "0",
            "1",
            "0x3c",
            "99999",
            "é",
            "cylces",
        ])
        .prop_map(String::from),
        prop::sample::select(vec![",", "{", "}", "/", ":", "=", "//", "/u", "},{", "=1,", " "])
            .prop_map(String::from),
        ".{0,3}",
    ]
}

/// An event that is right.
fn event() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "cycles",
        "cpu-cycles",
        "ref-cycles",
        "r1c0",
        "cpu/event=3,umask=0x1,inv/",
        "cpu/config=7,freq=3/",
        "cycles/period=7/",
        "cpu_atom/instructions/",
        "cpu/event=1,name=n/",
    ]);
    let letters = prop::sample::select(vec!["", ":u", ":k", ":uk"]);
    (name, letters).prop_map(|(name, letters)| format!("{name}{letters}"))
}

/// A list of right events, some in groups, never too long.
fn list() -> impl Strategy<Value = String> {
    let events = || prop::collection::vec(event(), 1..=4).prop_map(|events| events.join(","));
    let group = (events(), prop::sample::select(vec!["", ":u", ":k"]))
        .prop_map(|(events, letters)| format!("{{{events}}}{letters}"));
    prop::collection::vec(prop_oneof![events(), group], 1..=4).prop_map(|items| items.join(","))
}

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("tests/event_language.seeds");
    ProptestConfig { cases: 4000, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_text_makes_the_parser_panic(pieces in prop::collection::vec(piece(), 0..24)) {
        let text = pieces.concat();
        match parse_list(&text) {
            Ok(events) => {
                prop_assert!(!events.is_empty());
                prop_assert!(events.iter().all(|event| text.contains(event.text) && !event.to_string().is_empty()));
            }
            Err(error) => {
                let found = text.get(error.position_bytes..).unwrap_or_default();
                prop_assert!(found.starts_with(error.found), "{error}");
                prop_assert!(!error.to_string().chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn each_event_of_a_list_means_the_same_alone(text in list()) {
        let events = parse_list(&text).expect("right");
        for event in &events {
            let alone = one(event.text);
            prop_assert_eq!(Event { privilege: alone.privilege, group: 0, ..*event }, alone);
        }
        let groups = events.iter().map(|event| event.group).collect::<Vec<_>>();
        prop_assert!(groups.is_sorted() && groups[0] == 0);
        prop_assert!(groups.windows(2).all(|pair| pair[1] - pair[0] <= 1));
    }
}
