//! From samples to a log-mel spectrogram.

/// The smallest power of a filter that is told from others.
const LEAST_POWER: f64 = 1e-10;

/// How samples become rows of a spectrogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MelSettings {
    /// Samples in a second.
    pub rate: usize,
    /// Samples of a window.
    pub window: usize,
    /// Samples from one window to the next.
    pub hop: usize,
    /// Filters.
    pub filters: usize,
}

/// Log-mel spectrograms:
///
/// ```text
/// P_f = |Σ_n w_n x_n e^(−2πi f n / N)|² / N,    w_n = ½ (1 − cos(2π n / N))
/// y_m = ln max(Σ_f T_mf P_f, 1e-10)
/// ```
///
/// `T_m` are triangles of height 1 whose corners lie at equal distances on the scale `mel(f) = 2595 log₁₀(1 + f /
/// 700)`, from 0 to half the rate (Davis and Mermelstein, 1980; the scale is HTK's).
pub(super) struct LogMel {
    settings: MelSettings,
    hann: Vec<f64>,
    /// Of each filter, the first frequency that it reads and its weights from there on.
    triangles: Vec<(usize, Vec<f64>)>,
    fourier: Fourier,
}

impl LogMel {
    pub fn new(settings: MelSettings) -> Self {
        let n = settings.window;
        let turn = std::f64::consts::TAU / n as f64;
        LogMel {
            hann: (0..n)
                .map(|place| 0.5 - 0.5 * (turn * place as f64).cos())
                .collect(),
            triangles: triangles(settings),
            fourier: Fourier::new(n),
            settings,
        }
    }

    /// The rows of `samples`, `filters` numbers each, at most `most` of them; none where there is less than a
    /// window.
    pub fn rows(&self, samples: &[f32], most: usize) -> Vec<f32> {
        let MelSettings { window, hop, .. } = self.settings;
        let frames = match samples.len() >= window {
            true => (1 + (samples.len() - window) / hop).min(most),
            false => 0,
        };
        let mut rows = Vec::with_capacity(frames * self.settings.filters);
        for frame in 0..frames {
            let samples = &samples[frame * hop..frame * hop + window];
            let weighted = samples.iter().zip(&self.hann);
            let weighted: Vec<f64> = weighted
                .map(|(&sample, weight)| f64::from(sample) * weight)
                .collect();
            let spectrum = self.fourier.of(&weighted);
            let power: Vec<f64> = spectrum[..window / 2 + 1]
                .iter()
                .map(|[re, im]| (re * re + im * im) / window as f64)
                .collect();
            for (first, weights) in &self.triangles {
                let read = weights.iter().zip(&power[*first..]);
                let sum: f64 = read.map(|(weight, power)| weight * power).sum();
                rows.push(sum.max(LEAST_POWER).ln() as f32);
            }
        }
        rows
    }
}

/// The discrete Fourier transform of `n` numbers: halves as long as they are even (Cooley and Tukey, 1965), and the
/// definition for what is left, so any length will do and powers of two are fast.
struct Fourier {
    /// `e^(−2πi k / n)`.
    turns: Vec<[f64; 2]>,
}

impl Fourier {
    fn new(n: usize) -> Self {
        let turn = |k: usize| {
            let (sin, cos) = (-std::f64::consts::TAU * k as f64 / n as f64).sin_cos();
            [cos, sin]
        };
        Fourier {
            turns: (0..n).map(turn).collect(),
        }
    }

    /// `Σ_n x_n e^(−2πi f n / N)` for each `f`.
    fn of(&self, x: &[f64]) -> Vec<[f64; 2]> {
        self.part(x, 0, 1)
    }

    /// Of the numbers `x[first]`, `x[first + step]`, ….
    fn part(&self, x: &[f64], first: usize, step: usize) -> Vec<[f64; 2]> {
        let n = self.turns.len();
        let count = n / step;
        if count % 2 == 1 {
            let at = |f: usize| {
                let mut sum = [0.0; 2];
                for place in 0..count {
                    let [re, im] = self.turns[place * f % count * step];
                    let number = x[first + place * step];
                    sum = [sum[0] + number * re, sum[1] + number * im];
                }
                sum
            };
            return (0..count).map(at).collect();
        }
        let even = self.part(x, first, 2 * step);
        let odd = self.part(x, first + step, 2 * step);
        let half = count / 2;
        let at = |f: usize| {
            let ([re, im], [a, b]) = (self.turns[f * step], odd[f % half]);
            let [c, d] = even[f % half];
            [c + re * a - im * b, d + re * b + im * a]
        };
        (0..count).map(at).collect()
    }
}

fn triangles(settings: MelSettings) -> Vec<(usize, Vec<f64>)> {
    let MelSettings {
        rate,
        window,
        filters,
        ..
    } = settings;
    let mel = |frequency: f64| 2595.0 * (1.0 + frequency / 700.0).log10();
    let frequency = |mel: f64| 700.0 * (10.0f64.powf(mel / 2595.0) - 1.0);
    let top = mel(rate as f64 / 2.0);
    let corner = |place: usize| frequency(top * place as f64 / (filters + 1) as f64);
    let of = |filter: usize| {
        let [low, peak, high] = [0, 1, 2].map(|place| corner(filter + place));
        let weight = |bin: usize| {
            let at = bin as f64 * rate as f64 / window as f64;
            let rising = (at - low) / (peak - low);
            let falling = (high - at) / (high - peak);
            rising.min(falling).max(0.0)
        };
        let weights: Vec<f64> = (0..window / 2 + 1).map(weight).collect();
        let first = weights.iter().position(|&weight| weight > 0.0);
        let last = weights.iter().rposition(|&weight| weight > 0.0);
        match (first, last) {
            (Some(first), Some(last)) => (first, weights[first..=last].to_vec()),
            // Narrower than the distance of two frequencies.
            _ => (0, Vec::new()),
        }
    };
    (0..filters).map(of).collect()
}

/// `samples` at `rate` as they are at `wanted`: by a sinc under a Hann window, 16 zero crossings wide on either
/// side, that lets pass what both rates can hold.
pub(super) fn resample(samples: &[f32], rate: usize, wanted: usize) -> Vec<f32> {
    const CROSSINGS: f64 = 16.0;
    if rate == wanted {
        return samples.to_vec();
    }
    let step = rate as f64 / wanted as f64;
    let pass = (1.0 / step).min(1.0);
    let reach = CROSSINGS / pass;
    let length = (samples.len() as f64 / step).floor() as usize;
    let at = |place: usize| {
        let centre = place as f64 * step;
        let first = (centre - reach).ceil().max(0.0) as usize;
        let last = ((centre + reach).floor() as usize).min(samples.len().saturating_sub(1));
        let weight = |sample: usize| {
            let away = sample as f64 - centre;
            let turn = std::f64::consts::PI * away;
            let sinc = match away.abs() < 1e-9 {
                true => 1.0,
                false => (turn * pass).sin() / (turn * pass),
            };
            pass * sinc * 0.5 * (1.0 + (turn / reach).cos())
        };
        let sum: f64 = (first..=last)
            .map(|sample| weight(sample) * f64::from(samples[sample]))
            .sum();
        sum as f32
    };
    (0..length).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against NumPy: `mel.py` in the folder of tests wrote the numbers.
    #[test]
    fn spectrograms_equal_numpy() {
        let text = include_str!("../../../tests/oracles/mel.json");
        let oracle: serde_json::Value = serde_json::from_str(text).expect("an oracle");
        let expected = oracle["rows"].as_array().expect("rows");
        let settings = MelSettings {
            rate: 8000,
            window: 100,
            hop: 40,
            filters: 7,
        };
        let samples: Vec<f32> = (0..300)
            .map(f64::from)
            .map(|n| ((0.3 * n).sin() + 0.5 * (0.05 * n * n / 10.0).cos()) as f32)
            .collect();
        let found = LogMel::new(settings).rows(&samples, 100);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let expected = expected.as_f64().expect("a number");
            // Samples are rounded to single precision.
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5,
                "{found} {expected}"
            );
        }
        assert!(LogMel::new(settings).rows(&samples[..99], 100).is_empty());
    }

    /// A tone is the same tone at another rate, away from both ends.
    #[test]
    fn tones_are_resampled() {
        let tone = |rate: usize| -> Vec<f32> {
            let turn = std::f64::consts::TAU * 440.0 / rate as f64;
            (0..rate / 10)
                .map(|n| (turn * n as f64).sin() as f32)
                .collect()
        };
        for (rate, wanted) in [(16_000, 8_000), (8_000, 16_000), (44_100, 8_000)] {
            let (found, expected) = (resample(&tone(rate), rate, wanted), tone(wanted));
            assert_eq!(found.len(), expected.len());
            let inner = wanted / 40..wanted / 10 - wanted / 40;
            for (found, expected) in found[inner.clone()].iter().zip(&expected[inner]) {
                // The window of the filter lets through a little beside.
                assert!((found - expected).abs() < 2e-3, "{found} {expected}");
            }
        }
    }
}
