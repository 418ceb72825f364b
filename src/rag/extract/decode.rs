//! Bytes to text: tells text from other files, finds the encoding, and normalises line ends.
//!
//! In order: a byte order mark; the signature of a known binary format; UTF-8 (also when it is cut off at the end or
//! has a few bad bytes); UTF-16 without a mark; an encoding that an HTML page declares; a guess by letter frequencies.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::Reason;

/// First bytes of formats that people upload and that are not text.
const SIGNATURES: &[&[u8]] = &[
    b"%PDF-",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x7fELF",
    b"MZ\x90\x00",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"\xff\xd8\xff",
    b"\x1f\x8b\x08",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"{\\rtf",
    b"SQLite format 3\x00",
    b"OggS",
    b"ID3",
    b"fLaC",
    b"\x00\x00\x01\x00",
    b"II*\x00",
    b"MM\x00*",
    b"\xca\xfe\xba\xbe",
    b"\x00asm",
];

/// How much of a file is looked at for a declared encoding, in bytes: what the HTML standard prescribes.
const DECLARATION_BYTES_MAX: usize = 1024;

/// How much of a file the statistics look at, in bytes.
const SAMPLE_BYTES_MAX: usize = 64 * 1024;

/// One bad sequence in this many bytes is a damaged text; more are another encoding, or no text at all.
const BYTES_PER_BAD_SEQUENCE_MIN: usize = 200;

/// Decodes a file to text with `\n` line ends and no NUL.
pub fn decode(bytes: &[u8]) -> Result<String, Reason> {
    if SIGNATURES.iter().any(|signature| bytes.starts_with(signature)) || is_container(bytes) {
        return Err(Reason::UnsupportedType);
    }
    if bytes.starts_with(b"\xff\xfe\x00\x00") || bytes.starts_with(b"\x00\x00\xfe\xff") {
        return Err(Reason::Undecodable); // UTF-32, which no browser reads either.
    }
    let text = match Encoding::for_bom(bytes) {
        Some((encoding, mark)) => decode_as(encoding, &bytes[mark..])?,
        None => decode_unmarked(bytes)?,
    };
    let text = normalise(text)?;
    if text.trim().is_empty() { Err(Reason::Empty) } else { Ok(text) }
}

/// Formats whose signature does not stand at the very start.
fn is_container(bytes: &[u8]) -> bool {
    let at = |start: usize, mark: &[u8]| bytes.get(start..start + mark.len()) == Some(mark);
    at(4, b"ftyp")
        || at(257, b"ustar")
        || (at(0, b"RIFF") && (at(8, b"WAVE") || at(8, b"WEBP") || at(8, b"AVI ")))
}

fn decode_unmarked(bytes: &[u8]) -> Result<String, Reason> {
    if let Some(encoding) = utf_16_by_zeros(bytes) {
        return decode_as(encoding, bytes);
    }
    if bytes.contains(&0) {
        return Err(Reason::NotText);
    }
    // The one encoding besides UTF-7 that looks like ASCII.
    let is_escaped_japanese = bytes.windows(2).any(|pair| pair == b"\x1b$");
    if !is_escaped_japanese && let Some(text) = decode_utf_8(bytes) {
        return Ok(text);
    }
    if let Some(encoding) = declared(bytes) {
        return decode_as(encoding, bytes);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    decode_as(detector.guess(None, Utf8Detection::Deny), bytes)
}

/// Tells UTF-16 without a mark by where its zero bytes stand: Latin letters, spaces and digits have one each.
fn utf_16_by_zeros(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES_MAX)];
    let pairs = sample.len() / 2;
    if pairs == 0 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let zeros_first = sample.iter().step_by(2).filter(|byte| **byte == 0).count();
    let zeros_second = sample.iter().skip(1).step_by(2).filter(|byte| **byte == 0).count();
    let many = |zeros: usize| zeros * 5 >= pairs;
    let few = |zeros: usize| zeros * 50 <= pairs;
    match (zeros_first, zeros_second) {
        (first, second) if many(second) && few(first) => Some(UTF_16LE),
        (first, second) if many(first) && few(second) => Some(UTF_16BE),
        _ => None,
    }
}

/// Decodes UTF-8. A text that was cut inside its last character, or that has a few bad bytes among many good
/// multi-byte characters, is still UTF-8: a guess would turn all its other characters into rubbish.
fn decode_utf_8(bytes: &[u8]) -> Option<String> {
    let Err(error) = std::str::from_utf8(bytes) else {
        return Some(String::from_utf8_lossy(bytes).into_owned());
    };
    if error.error_len().is_none() && error.valid_up_to() > 0 {
        return Some(String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned());
    }
    let (mut good, mut bad) = (0_usize, 0_usize);
    for piece in bytes.utf8_chunks() {
        good += piece.valid().chars().filter(|character| !character.is_ascii()).count();
        bad += usize::from(!piece.invalid().is_empty());
    }
    (good >= 10 * bad && bad * BYTES_PER_BAD_SEQUENCE_MIN <= bytes.len())
        .then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Finds the encoding that a page declares: `<meta charset="…">`, its older form, or an XML declaration.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes[..bytes.len().min(DECLARATION_BYTES_MAX)].to_ascii_lowercase();
    let head = String::from_utf8_lossy(&head);
    let is_markup = head.trim_start().starts_with('<');
    let (_, rest) = head.split_once("charset=").or_else(|| head.split_once("encoding="))?;
    let label = rest.trim_start_matches(['"', '\'']);
    let end = label.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c))).unwrap_or(label.len());
    // A page that is read as ASCII here cannot be UTF-16, whatever it says.
    Encoding::for_label(&label.as_bytes()[..end])
        .filter(|encoding| is_markup && *encoding != UTF_8 && *encoding != UTF_16LE && *encoding != UTF_16BE)
}

fn decode_as(encoding: &'static Encoding, bytes: &[u8]) -> Result<String, Reason> {
    let (text, has_errors) = encoding.decode_without_bom_handling(bytes);
    if has_errors {
        let bad = text.chars().filter(|character| *character == char::REPLACEMENT_CHARACTER).count();
        // The last character of a file that was cut off may always be bad.
        if bad > 1 + bytes.len() / BYTES_PER_BAD_SEQUENCE_MIN {
            return Err(Reason::Undecodable);
        }
    }
    Ok(text.into_owned())
}

/// Makes every line end `\n`, drops the remaining marks, and refuses what has control characters no text has.
fn normalise(text: String) -> Result<String, Reason> {
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}' | '\u{1b}' | '\u{85}');
    let odd = text.chars().filter(|c| is_odd(*c)).count();
    if odd > 4 + text.len() / BYTES_PER_BAD_SEQUENCE_MIN {
        return Err(Reason::NotText);
    }
    if odd == 0 && !text.contains(['\r', '\u{c}', '\u{1b}', '\u{feff}']) {
        return Ok(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' => {
                characters.next_if_eq(&'\n');
                clean.push('\n');
            }
            '\u{c}' => clean.push('\n'),
            '\u{1b}' | '\u{feff}' => {}
            odd if is_odd(odd) => clean.push(' '),
            other => clean.push(other),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: &str =
        "Größere Änderungen müssen über den Freigabeweg laufen. Prüfen Sie vorher die Rückfallebene.";
    const RUSSIAN: &str =
        "Перед обновлением сделайте резервную копию базы данных и проверьте её восстановление.";

    #[test]
    fn encodings_are_told_by_content() {
        assert_eq!(decode(GERMAN.as_bytes()).unwrap(), GERMAN);
        assert_eq!(decode(&[b"\xef\xbb\xbf", GERMAN.as_bytes()].concat()).unwrap(), GERMAN);
        let utf_16: Vec<u16> = GERMAN.encode_utf16().collect();
        let little: Vec<u8> = utf_16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = utf_16.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        assert_eq!(decode(&little).unwrap(), GERMAN);
        assert_eq!(decode(&big).unwrap(), GERMAN);
        assert_eq!(decode(&[b"\xff\xfe".as_slice(), &little].concat()).unwrap(), GERMAN);
        assert_eq!(decode(&[b"\xfe\xff".as_slice(), &big].concat()).unwrap(), GERMAN);
        assert_eq!(decode(&encoding_rs::WINDOWS_1252.encode(GERMAN).0).unwrap(), GERMAN);
        assert_eq!(decode(&encoding_rs::WINDOWS_1251.encode(RUSSIAN).0).unwrap(), RUSSIAN);
        assert_eq!(decode(&encoding_rs::KOI8_R.encode(RUSSIAN).0).unwrap(), RUSSIAN);
        let japanese = "定期点検は毎月第一月曜日に行います。結果を記録してください。";
        assert_eq!(decode(&encoding_rs::SHIFT_JIS.encode(japanese).0).unwrap(), japanese);
        assert_eq!(decode(&encoding_rs::ISO_2022_JP.encode(japanese).0).unwrap(), japanese);
    }

    #[test]
    fn a_page_declares_its_encoding() {
        let page = "<html><head><meta charset=\"iso-8859-2\"></head><p>Žluťoučký kůň</p>";
        assert_eq!(decode(&encoding_rs::ISO_8859_2.encode(page).0).unwrap(), page);
    }

    #[test]
    fn a_cut_or_scratched_text_is_still_read() {
        let cut = &"日本語のテキスト".as_bytes()[..22];
        assert_eq!(decode(cut).unwrap(), "日本語のテキス");
        let mut scratched = RUSSIAN.repeat(5).into_bytes();
        scratched[100] = 0xff;
        assert!(decode(&scratched).unwrap().starts_with("Перед обновлением"));
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_reason() {
        assert_eq!(decode(b"").unwrap_err(), Reason::Empty);
        assert_eq!(decode(b" \r\n\t \xef\xbb\xbf").unwrap_err(), Reason::Empty);
        assert_eq!(decode(b"\xef\xbb\xbf").unwrap_err(), Reason::Empty);
        assert_eq!(decode(b"%PDF-1.7\n...").unwrap_err(), Reason::UnsupportedType);
        assert_eq!(decode(b"PK\x03\x04\x14\0\0\0").unwrap_err(), Reason::UnsupportedType);
        assert_eq!(decode(b"abc\0\0\0def\0ghi").unwrap_err(), Reason::NotText);
        let noise: Vec<u8> =
            (0..4096_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        assert!(matches!(decode(&noise).unwrap_err(), Reason::NotText | Reason::Undecodable));
        let controls: Vec<u8> = (1..=8).cycle().take(3000).collect();
        assert_eq!(decode(&controls).unwrap_err(), Reason::NotText);
    }

    #[test]
    fn line_ends_become_one_kind() {
        assert_eq!(decode(b"a\r\nb\rc\nd\x0ce").unwrap(), "a\nb\nc\nd\ne");
    }
}
