//! Random texts that open something: session keys, API tokens, CSRF secrets, invitation codes.

use rand::RngExt;

/// Letters and digits, as in Django's CSRF secrets; their order is part of the masking.
pub const ALPHANUMERIC: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const LOWER_ALPHANUMERIC: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Makes the key of a session: 32 characters, 165 bits.
pub fn session_key() -> String {
    text(LOWER_ALPHANUMERIC, 32)
}

/// Makes an API token: 40 hexadecimal digits, 160 bits.
pub fn api_token() -> String {
    hex::encode(rand::random::<[u8; 20]>())
}

/// Makes the code of an invitation: 24 characters, 124 bits, to be pasted into a form.
pub fn invitation_code() -> String {
    text(LOWER_ALPHANUMERIC, 24)
}

/// Makes a CSRF secret: 32 characters.
pub fn csrf_secret() -> String {
    text(ALPHANUMERIC, 32)
}

/// Draws `length` letters from the system-seeded generator, each as likely as the others.
fn text(alphabet: &[u8], length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(alphabet[random.random_range(0..alphabet.len())])).collect()
}
