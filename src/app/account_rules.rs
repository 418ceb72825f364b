//! What a username and a password must look like: Django's rules in Django's words.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

/// Characters of a username at most.
pub const USERNAME_CHARS_MAX: usize = 150;
/// Characters of a password at most; more only cost time.
pub const PASSWORD_CHARS_MAX: usize = 1000;
/// Characters of an address at most.
pub const EMAIL_CHARS_MAX: usize = 254;

const PASSWORD_CHARS_MIN: usize = 8;
/// Share of common characters from which a password counts as similar to the username or the address.
const SIMILARITY_MAX: f64 = 0.7;
/// A password of so few different characters is one of the first to be tried.
const DISTINCT_CHARS_MIN: usize = 5;
/// Digits in the order of the keyboard, there and back; five of them in a row are no secret.
const DIGIT_ROWS: &str = "01234567890 09876543210";
const DIGIT_RUN_MIN: usize = 5;

/// The words behind the passwords that lead the published counts of breached ones.
const COMMON_WORDS: &str = include_str!("common_passwords.txt");

/// Returns the form in which a username is stored and compared: NFKC, so that lookalike spellings are one name.
pub fn normalize_username(username: &str) -> String {
    username.nfkc().collect()
}

/// Returns what is wrong with a username.
pub fn check_username(username: &str) -> Option<&'static str> {
    let valid = |letter: char| letter.is_alphanumeric() || "_.@+-".contains(letter);
    (!username.chars().all(valid)).then_some(
        "Enter a valid username. This value may contain only letters, numbers, and @/./+/-/_ characters.",
    )
}

/// Returns what is wrong with an address. Only a mail that arrives proves an address, so this catches slips alone.
pub fn check_email(email: &str) -> Option<&'static str> {
    let valid = email.rsplit_once('@').is_some_and(|(local, domain)| {
        let labels = domain.split('.').collect::<Vec<_>>();
        !local.is_empty()
            && labels.len() > 1
            && labels.iter().all(|label| !label.is_empty())
            && !email.contains(|letter: char| letter.is_whitespace() || letter.is_control())
    });
    (!valid).then_some("Enter a valid email address.")
}

/// Returns everything that is wrong with a password of this user.
pub fn check_password(password: &str, username: &str, email: &str) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    if is_similar(password, username) {
        wrong.push("The password is too similar to the username.");
    } else if is_similar(password, email) {
        wrong.push("The password is too similar to the email address.");
    }
    if password.chars().count() < PASSWORD_CHARS_MIN {
        wrong.push("This password is too short. It must contain at least 8 characters.");
    }
    if is_common(password) {
        wrong.push("This password is too common.");
    }
    if password.chars().all(char::is_numeric) {
        wrong.push("This password is entirely numeric.");
    }
    wrong
}

/// Whether a password is made of a common word, however decorated, or of next to nothing.
fn is_common(password: &str) -> bool {
    let password = password.trim().to_lowercase();
    let mut distinct: Vec<char> = password.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < DISTINCT_CHARS_MIN {
        return true;
    }
    // "P@ssw0rd2024!" is "password"; "1q2w3e4r" is "qwer".
    let trimmed = password.trim_matches(|letter: char| !letter.is_alphabetic());
    let plain: String = trimmed.chars().map(undecorated).collect();
    let letters: String = password.chars().filter(|letter| letter.is_alphabetic()).collect();
    let digits: String = password.chars().filter(char::is_ascii_digit).collect();
    let is_run = digits.len() >= DIGIT_RUN_MIN && DIGIT_ROWS.contains(&digits);
    let few_letters = password.len() - digits.len() <= digits.len() / 2;
    (is_run && few_letters) || [&*plain, &*letters].into_iter().any(|word| is_common_word(halved(word)))
}

/// The letter that a digit or sign commonly stands for.
fn undecorated(letter: char) -> char {
    match letter {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

/// A word that is written twice, once.
fn halved(word: &str) -> &str {
    match word.split_at_checked(word.len() / 2) {
        Some((first, second)) if first == second => first,
        _ => word,
    }
}

fn is_common_word(word: &str) -> bool {
    COMMON_WORDS.split_ascii_whitespace().any(|common| common == word)
}

/// Django's measure: the characters that two texts share, whatever their order, against their lengths.
fn is_similar(password: &str, attribute: &str) -> bool {
    let (password, attribute) = (password.to_lowercase(), attribute.to_lowercase());
    let parts = attribute.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    parts.chain([&*attribute]).filter(|part| !part.is_empty()).any(|part| {
        let (password_chars, part_chars) = (password.chars().count(), part.chars().count());
        let mut left: HashMap<char, usize> = HashMap::new();
        part.chars().for_each(|letter| *left.entry(letter).or_default() += 1);
        let shared = password.chars().filter(|letter| match left.get_mut(letter) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        });
        let ratio = 2.0 * shared.count() as f64 / (password_chars + part_chars) as f64;
        ratio >= SIMILARITY_MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_password_passes_and_each_bad_one_has_its_sentence() {
        assert!(check_password("peer-bench-passage", "user01", "user01@example.org").is_empty());
        assert!(check_password("korrekt pferd batterie", "ann", "").is_empty());
        let only = |password, sentence| assert_eq!(check_password(password, "ann", ""), [sentence]);
        only("k2#Vq9", "This password is too short. It must contain at least 8 characters.");
        only("83649275", "This password is entirely numeric.");
    }

    #[test]
    fn a_common_password_is_found_behind_its_decoration() {
        for common in [
            "password",
            "P@ssw0rd2024!",
            "1q2w3e4r5t",
            "qwertyuiop",
            "iloveyou1",
            "aaaaaaaaaa",
            "1qaz2wsx",
            "a123456789",
        ] {
            assert!(is_common(common), "{common}");
        }
        for fine in ["korrekt pferd", "tr0ub4dor&3x", "7x!9#2$5", "83649275", "Blaue-Kanne-71"] {
            assert!(!is_common(fine), "{fine}");
        }
    }

    #[test]
    fn a_password_like_the_name_or_a_part_of_the_address_is_refused() {
        assert!(is_similar("marianne1", "marianne"));
        assert!(is_similar("ENNAIRAM-x", "marianne"));
        assert!(is_similar("schneider9", "m.schneider@example.org"));
        assert!(!is_similar("blue-kettle-71", "marianne"));
        assert!(!is_similar("anything", ""));
    }

    #[test]
    fn usernames_are_word_characters_and_a_few_signs() {
        assert_eq!(check_username("ann.b+c@d-e_f"), None);
        assert_eq!(check_username("Zoë"), None);
        assert!(check_username("ann b").is_some());
        assert!(check_username("ann/b").is_some());
        assert_eq!(normalize_username("\u{ff41}nn"), "ann");
    }

    #[test]
    fn an_address_has_a_domain() {
        assert_eq!(check_email("ann@example.org"), None);
        for wrong in ["ann", "ann@example", "@example.org", "a b@example.org", "ann@.org"] {
            assert!(check_email(wrong).is_some(), "{wrong}");
        }
    }
}
