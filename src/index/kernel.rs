//! Integer products of packed 4-bit rows with an 8-bit query: the loop in which a scan spends its time.
//!
//! A row is a run of 64-byte lines; byte `b` of line `l` holds dimension `128 l + b` in its low half and `128 l + 64 + b`
//! in its high half, each as an unsigned number 0 to 15. The query has the same order, one signed byte per dimension.
//! All versions return the same integers, so results do not depend on the machine.

/// 64 bytes that start on a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u8; 64]);

impl Line {
    pub const ZERO: Self = Self([0; 64]);
}

/// Dimensions in one line of packed rows.
pub(super) const LINE_DIMENSIONS: usize = 128;

/// The query's bytes for one line of a row.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct QueryLine {
    pub low: [i8; 64],
    pub high: [i8; 64],
}

/// Multiplies each row with the query: `dots[i] = row i · query`.
///
/// * `rows`: `dots.len()` rows of `query.len()` lines each.
///
/// # Panics
/// When the lengths disagree.
pub(super) fn dots(query: &[QueryLine], rows: &[Line], dots: &mut [i32]) {
    assert_eq!(rows.len(), query.len() * dots.len(), "rows, query and results must have matching lengths");
    #[cfg(target_arch = "x86_64")]
    {
        // The answer of the macro is cached by the standard library: one atomic load.
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
        {
            #[expect(unsafe_code, reason = "calls a kernel that needs CPU features")]
            // SAFETY: the features that the function needs were detected just above.
            return unsafe { x86::dots_avx512(query, rows, dots) };
        }
        if is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "calls a kernel that needs CPU features")]
            // SAFETY: the feature that the function needs was detected just above.
            return unsafe { x86::dots_avx2(query, rows, dots) };
        }
    }
    dots_portable(query, rows, dots);
}

/// The definition that the other versions are tested against; the compiler vectorises it for NEON.
fn dots_portable(query: &[QueryLine], rows: &[Line], dots: &mut [i32]) {
    for (row, dot) in rows.chunks_exact(query.len()).zip(dots) {
        *dot = 0;
        for (line, part) in row.iter().zip(query) {
            for b in 0..64 {
                *dot += i32::from(line.0[b] & 15) * i32::from(part.low[b]);
                *dot += i32::from(line.0[b] >> 4) * i32::from(part.high[b]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Line, QueryLine};

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn dots_avx512(query: &[QueryLine], rows: &[Line], dots: &mut [i32]) {
        let mask = _mm512_set1_epi8(15);
        for (row, dot) in rows.chunks_exact(query.len()).zip(dots) {
            let (mut low_sum, mut high_sum) = (_mm512_setzero_si512(), _mm512_setzero_si512());
            for (line, part) in row.iter().zip(query) {
                let (bytes, low_query, high_query) =
                    (load512(&line.0), load512(&part.low), load512(&part.high));
                let low = _mm512_and_si512(bytes, mask);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
                low_sum = _mm512_dpbusd_epi32(low_sum, low, low_query);
                high_sum = _mm512_dpbusd_epi32(high_sum, high, high_query);
            }
            *dot = _mm512_reduce_add_epi32(_mm512_add_epi32(low_sum, high_sum));
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn dots_avx2(query: &[QueryLine], rows: &[Line], dots: &mut [i32]) {
        let mask = _mm256_set1_epi8(15);
        let ones = _mm256_set1_epi16(1);
        for (row, dot) in rows.chunks_exact(query.len()).zip(dots) {
            let mut sum = _mm256_setzero_si256();
            for (line, part) in row.iter().zip(query) {
                // One line adds four products of two 16-bit pairs: at most 4 · 2 · 15 · 128 = 15,360, no saturation.
                let mut pairs = _mm256_setzero_si256();
                for half in 0..2 {
                    let bytes = load256(&line.0, half);
                    let low = _mm256_and_si256(bytes, mask);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(low, load256(&part.low, half)));
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(high, load256(&part.high, half)));
                }
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
            }
            let halves = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let pairs = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
            *dot = _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32::<0b00_00_00_01>(pairs)));
        }
    }

    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "loads through a pointer")]
    fn load512<T: Byte>(bytes: &[T; 64]) -> __m512i {
        // SAFETY: the reference is valid for 64 bytes and the load needs no alignment.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    /// Loads bytes `32 half` to `32 half + 31`.
    #[target_feature(enable = "avx2")]
    #[expect(unsafe_code, reason = "loads through a pointer")]
    fn load256<T: Byte>(bytes: &[T; 64], half: usize) -> __m256i {
        let part: &[T] = &bytes[32 * half..32 * half + 32];
        // SAFETY: the slice is valid for 32 bytes and the load needs no alignment.
        unsafe { _mm256_loadu_si256(part.as_ptr().cast()) }
    }

    /// The two types of one byte; keeps the loads above from reading anything else.
    trait Byte {}
    impl Byte for u8 {}
    impl Byte for i8 {}

    #[cfg(test)]
    mod tests {
        use super::super::dots_portable;
        use super::*;

        /// Rows and a query that reach every extreme: largest halves, most negative query bytes.
        fn extremes(lines: usize) -> (Vec<QueryLine>, Vec<Line>) {
            let byte = |seed: usize| (seed.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()[0];
            let query = (0..lines)
                .map(|line| QueryLine {
                    low: std::array::from_fn(|b| {
                        if b % 5 == 0 { -128 } else { byte(line * 64 + b).cast_signed() }
                    }),
                    high: std::array::from_fn(|b| {
                        if b % 3 == 0 { 127 } else { byte(line + b * 77).cast_signed() }
                    }),
                })
                .collect();
            let rows = (0..7 * lines)
                .map(|line| {
                    Line(std::array::from_fn(|b| if line < lines { 0xff } else { byte(line * 31 + b) }))
                })
                .collect();
            (query, rows)
        }

        #[test]
        #[expect(unsafe_code, reason = "calls kernels that need CPU features")]
        fn every_version_returns_the_portable_versions_integers() {
            for lines in [1, 2, 3, 8] {
                let (query, rows) = extremes(lines);
                let mut expected = [0; 7];
                dots_portable(&query, &rows, &mut expected);
                let mut found = [0; 7];
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the feature was just detected.
                    unsafe { dots_avx2(&query, &rows, &mut found) };
                    assert_eq!(found, expected);
                }
                if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
                    // SAFETY: the features were just detected; both imply avx512f.
                    unsafe { dots_avx512(&query, &rows, &mut found) };
                    assert_eq!(found, expected);
                }
            }
        }
    }
}
