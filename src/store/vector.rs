//! How vectors are stored: little-endian `f32`, one after the other.

/// Writes a vector.
pub fn encode(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// Reads a vector; bytes of an unfinished component at the end are left out.
pub fn decode(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|component| f32::from_le_bytes(*component)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_as_it_was_written() {
        let vector = [1.0, -0.5, f32::MIN_POSITIVE, 0.0];
        assert_eq!(decode(&encode(&vector)), vector);
        assert_eq!(encode(&[1.0]), [0, 0, 0x80, 0x3f]);
        assert_eq!(decode(&[]), Vec::<f32>::new());
    }
}
