//! What the kernels' tests share: noise, comparison, and runs under several pool sizes.

use super::real::Real;

/// `len` values in (-1, 1) from a counter hash.
pub fn noise<T: Real>(seed: u64, len: usize) -> Vec<T> {
    (0..len as u64)
        .map(|i| {
            let mut z = (seed << 32 | i).wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            T::from_f64(((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        })
        .collect()
}

/// 1e-5 for `f32`, 1e-12 for `f64`: rounding of sums of a few thousand terms.
pub fn tolerance<T: Real>() -> f64 {
    if size_of::<T>() == 4 { 1e-5 } else { 1e-12 }
}

/// Panics unless `actual` equals `expected` to `tolerance` relative to the largest expected
/// magnitude.
#[track_caller]
pub fn assert_close<T: Real>(actual: &[T], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (a.to_f64() - e).abs();
        assert!(
            error <= tolerance * scale,
            "{what}: element {i} is {}, expected {e}",
            a.to_f64()
        );
    }
}

/// `⟨a, b⟩` in double precision.
pub fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

/// The values in double precision.
pub fn widen<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| v.to_f64()).collect()
}

/// Runs `f` in pools of 1, 2 and 3 threads and panics unless the results have the same bits.
#[track_caller]
pub fn assert_same_for_any_threads<T: Real>(f: impl Fn() -> Vec<T> + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool of a few threads");
        let values = pool.install(&f);
        values
            .iter()
            .map(|v| v.to_f64().to_bits())
            .collect::<Vec<_>>()
    };
    let one = run(1);
    assert_eq!(one, run(2), "1 and 2 threads differ");
    assert_eq!(one, run(3), "1 and 3 threads differ");
}
