//! Release files, package lists, relations, versions and apt's lists: any text is read or refused.
#![no_main]

use archive::resolve::{Universe, Wanted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = archive::release::Release::parse(text);
    let _ = archive::sources::parse_list(text);
    let _ = archive::sources::parse_deb822(text);
    let wanted = Wanted {
        priorities: vec!["required".to_owned()],
        ..Wanted::default()
    };
    let _ = Universe::new(archive::packages::parse(text, "amd64", 0)).resolve(&wanted);
    let (a, b) = text.split_once('\n').unwrap_or((text, ""));
    assert_eq!(archive::version::compare(a, b), archive::version::compare(b, a).reverse());
});
