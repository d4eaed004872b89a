//! What describes a kind: YAML from an operator, and the documents of the meta group.
#![no_main]

use kvarter_actors::Kind;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(kind) = Kind::from_document("kinds/some", bytes) {
        reads_back(&kind);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(kind) = Kind::from_yaml(text) {
        reads_back(&kind);
    }
});

fn reads_back(kind: &Kind) {
    let document = kind.to_document();
    let again =
        Kind::from_document(&kind.document_key(), &document).expect("a kind that was checked is stored and read");
    assert_eq!(document, again.to_document(), "a kind changes when it is stored");
}
