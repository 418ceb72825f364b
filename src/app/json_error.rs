//! What is wrong with a JSON text, in the words of Python's parser, which DRF passes on.

/// Returns DRF's sentence for a text that does not parse.
///
/// The usual mistakes read exactly as Python has them; rarer ones keep our parser's words in Python's form.
pub fn sentence(json: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    let ours = text.split(" at line ").next().unwrap_or_default();
    let python = match ours {
        "expected value" | "EOF while parsing a value" | "expected ident" => "Expecting value",
        "key must be a string" => "Expecting property name enclosed in double quotes",
        "expected `:`" => "Expecting ':' delimiter",
        "expected `,` or `}`" | "expected `,` or `]`" => "Expecting ',' delimiter",
        "trailing characters" => "Extra data",
        other => other,
    };
    let line_start: usize =
        json.split_inclusive(|byte| *byte == b'\n').take(error.line() - 1).map(<[u8]>::len).sum();
    // Ours ends a text at its last byte, Python one character beyond it.
    let bytes = error.column().saturating_sub(usize::from(!error.is_eof()));
    let end = (line_start + bytes).min(json.len());
    let characters = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().count();
    let column = characters(&json[line_start.min(end)..end]) + 1;
    let character = characters(&json[..end]);
    format!("JSON parse error - {python}: line {} column {column} (char {character})", error.line())
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn of(json: &str) -> String {
        let error = serde_json::from_str::<&RawValue>(json).unwrap_err();
        sentence(json.as_bytes(), &error)
    }

    #[test]
    fn the_usual_mistakes_read_as_python_has_them() {
        for (json, python) in [
            ("x", "Expecting value: line 1 column 1 (char 0)"),
            ("{\"name\": ", "Expecting value: line 1 column 10 (char 9)"),
            ("{\"é\":\n  x}", "Expecting value: line 2 column 3 (char 8)"),
            ("{\"é\": x}", "Expecting value: line 1 column 7 (char 6)"),
            ("{name: 1}", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
            ("{\"a\" 1}", "Expecting ':' delimiter: line 1 column 6 (char 5)"),
            ("{\"a\": 1 \"b\"}", "Expecting ',' delimiter: line 1 column 9 (char 8)"),
            ("[1 2]", "Expecting ',' delimiter: line 1 column 4 (char 3)"),
            ("{} x", "Extra data: line 1 column 4 (char 3)"),
        ] {
            assert_eq!(of(json), format!("JSON parse error - {python}"), "{json}");
        }
    }

    #[test]
    fn any_rubbish_has_a_sentence() {
        for json in ["", "\"", "{\"a\": \"b", "[1,]", "{\"a\":1,}", "nul", "-", "\u{1}", "[\n\n", "\n\n"] {
            assert!(of(json).starts_with("JSON parse error - "), "{json:?}");
        }
    }
}
