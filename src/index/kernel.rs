//! Products of coded rows with a query: the loops in which a scan spends its time.
//!
//! A row of 4-bit numbers is a run of 64-byte lines; byte `b` of line `l` holds dimension `128 l + b` in its low half and `128 l + 64 + b`
//! in its high half, each as an unsigned number 0 to 15. The query has the same order, one signed byte per dimension.
//! All versions of a function return the same numbers, so results do not depend on the machine.

/// 64 bytes that start on a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u8; 64]);

impl Line {
    pub const ZERO: Self = Self([0; 64]);
}

/// Dimensions in one line of packed rows.
pub(super) const LINE_DIMENSIONS: usize = 128;

/// What is added to a code to store it without a sign.
pub(super) const CODE_OFFSET: i32 = 1 << 23;

/// One row's 24-bit codes: the top and the next 4 bits packed as above, then the two lower bytes in natural order.
pub(super) struct Planes<'a> {
    pub top: &'a [Line],
    pub middle: &'a [Line],
    pub second: &'a [Line],
    pub last: &'a [Line],
}

/// The query's bytes for one line of a row.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct QueryLine {
    pub low: [i8; 64],
    pub high: [i8; 64],
}

/// Line, byte and shift of dimension `i` in a packed plane.
pub(super) fn position(i: usize) -> (usize, usize, u32) {
    let shift = if i % LINE_DIMENSIONS < 64 { 0 } else { 4 };
    (i / LINE_DIMENSIONS, i % 64, shift)
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
        if x86::has_avx512() {
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

/// Multiplies a row's codes, offset taken off, with a query of 64 floats per line of `second`.
///
/// Every product is exact in 64 bits and they are added in a fixed order.
pub(super) fn product(query: &[f32], row: &Planes<'_>) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            #[expect(unsafe_code, reason = "calls a function that needs CPU features")]
            // SAFETY: the features that the function needs were detected just above.
            return unsafe { x86::product_avx512(query, row) };
        }
        if is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "calls a function that needs CPU features")]
            // SAFETY: the feature that the function needs was detected just above.
            return unsafe { x86::product_avx2(query, row) };
        }
    }
    product_portable(query, row)
}

/// The one body of all versions: the compiler vectorises it for the features of its caller, and never reorders or
/// contracts float operations.
#[inline(always)]
fn product_portable(query: &[f32], row: &Planes<'_>) -> f64 {
    let mut lanes = [0.0_f64; 8];
    for (part, query) in query.as_chunks::<64>().0.iter().enumerate() {
        let (top, middle) = (&row.top[part / 2].0, &row.middle[part / 2].0);
        let (second, last) = (&row.second[part].0, &row.last[part].0);
        let shift = part % 2 * 4;
        let mut codes = [0_i32; 64];
        for b in 0..64 {
            let high = (top[b] >> shift & 15) << 4 | (middle[b] >> shift & 15);
            codes[b] = i32::from(high) << 16 | i32::from(second[b]) << 8 | i32::from(last[b]);
        }
        for (query, codes) in query.as_chunks::<8>().0.iter().zip(codes.as_chunks::<8>().0) {
            for lane in 0..8 {
                lanes[lane] += f64::from(query[lane]) * f64::from(codes[lane] - CODE_OFFSET);
            }
        }
    }
    lanes.iter().sum()
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

    use super::{Line, Planes, QueryLine, product_portable};

    /// Whether this CPU has what the AVX-512 versions need. The standard library keeps the answers.
    pub fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn product_avx512(query: &[f32], row: &Planes<'_>) -> f64 {
        product_portable(query, row)
    }

    #[target_feature(enable = "avx2")]
    pub fn product_avx2(query: &[f32], row: &Planes<'_>) -> f64 {
        product_portable(query, row)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn dots_avx512(query: &[QueryLine], rows: &[Line], dots: &mut [i32]) {
        // Four rows share the query's registers and the additions across lanes.
        let (fours, rest) = dots.as_chunks_mut::<4>();
        let (rows, rest_rows) = rows.split_at(fours.len() * 4 * query.len());
        for (rows, dots) in rows.chunks_exact(4 * query.len()).zip(fours) {
            let mut sums = [_mm512_setzero_si512(); 4];
            for (line, part) in query.iter().enumerate() {
                let (low, high) = (load512(&part.low), load512(&part.high));
                for (row, sum) in sums.iter_mut().enumerate() {
                    *sum = add_line(*sum, &rows[row * query.len() + line], low, high);
                }
            }
            *dots = add_lanes(sums);
        }
        for (row, dot) in rest_rows.chunks_exact(query.len()).zip(rest) {
            let mut sum = _mm512_setzero_si512();
            for (line, part) in row.iter().zip(query) {
                sum = add_line(sum, line, load512(&part.low), load512(&part.high));
            }
            *dot = _mm512_reduce_add_epi32(sum);
        }
    }

    /// Adds the products of one line to 16 sums.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn add_line(sum: __m512i, line: &Line, low_query: __m512i, high_query: __m512i) -> __m512i {
        let mask = _mm512_set1_epi8(15);
        let bytes = load512(&line.0);
        let low = _mm512_and_si512(bytes, mask);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, low, low_query), high, high_query)
    }

    /// Adds up the 16 lanes of each of four vectors.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn add_lanes(sums: [__m512i; 4]) -> [i32; 4] {
        let [a, b, c, d] = sums
            .map(|sum| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)));
        let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let all = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
        [
            _mm_extract_epi32::<0>(all),
            _mm_extract_epi32::<1>(all),
            _mm_extract_epi32::<2>(all),
            _mm_extract_epi32::<3>(all),
        ]
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
        use super::super::{dots_portable, product};
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
                if has_avx512() {
                    // SAFETY: the features were just detected.
                    unsafe { dots_avx512(&query, &rows, &mut found) };
                    assert_eq!(found, expected);
                }
            }
        }

        #[test]
        #[expect(unsafe_code, reason = "calls functions that need CPU features")]
        fn every_version_returns_the_portable_versions_sum() {
            let (_, rows) = extremes(3);
            let row =
                Planes { top: &rows[3..6], middle: &rows[6..9], second: &rows[9..15], last: &rows[15..21] };
            let query: Vec<f32> = (0..384_u16).map(|i| (f32::from(i) - 200.0) / 777.0).collect();
            let expected = product_portable(&query, &row);
            assert_eq!(product(&query, &row).to_bits(), expected.to_bits());
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the feature was just detected.
                let found = unsafe { product_avx2(&query, &row) };
                assert_eq!(found.to_bits(), expected.to_bits());
            }
        }
    }
}
