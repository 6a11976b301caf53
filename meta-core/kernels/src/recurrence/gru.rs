//! A step of a gated recurrent unit, its adjoint and the derivative of that, element by element.
//!
//! `r s n` are the gates and the proposal after their activations, `q` what the proposal reads of the state
//! before, `h⁻`. With `dh` the gradient along what a step gives, the adjoint is
//!
//! ```text
//! δn = dh (1 − s) (1 − n²),   δr = δn q r (1 − r),   δs = dh (h⁻ − n) s (1 − s)
//! δq = δn r,   dh⁻ = dh s    (without what comes through the weight)
//! ```

use crate::real::{Real, wide};

wide! {
    /// From the sums of the gates `r s` and `n`, what is read, to the gates; `q` and `h` from that before
    /// to the next.
    pub fn forward[T: Real](r: &mut [T], s: &mut [T], n: &mut [T], q: &[T], h: &mut [T]) {
        let len = r.len();
        let (s, n, q, h) = (&mut s[..len], &mut n[..len], &q[..len], &mut h[..len]);
        for j in 0..len {
            (r[j], s[j]) = (r[j].sigmoid(), s[j].sigmoid());
            n[j] = (n[j] + r[j] * q[j]).tanh();
            h[j] = n[j] + s[j] * (h[j] - n[j]);
        }
    }
}

/// What the forward pass kept of a step of a piece: `r s n q h⁻`.
#[derive(Clone, Copy)]
pub struct Kept<'a, T>(pub [&'a [T]; 5]);

impl<T: Real> Kept<'_, T> {
    /// The adjoint: `sums` are the gradients along the sums of `r s n`, then along `q`; `dh` becomes the
    /// part of the gradient along the state before that passes the gate.
    pub fn adjoint(&self, dh: &mut [T], sums: [&mut [T]; 4]) {
        let ([r, s, n, q, h], [dr, ds, dn, dq]) = (self.0, sums);
        adjoint(r, s, n, q, h, dh, dr, ds, dn, dq);
    }

    /// The derivative of the adjoint's product with a direction: `w` along the sums of `r s n`, then `q`,
    /// and `along` along the state before. `dh` is the adjoint's. `w` becomes the derivative along the
    /// sums and `q`, `along` the one along `dh`, `before` the one along the state before.
    pub fn curvature(&self, dh: &[T], w: [&mut [T]; 4], along: &mut [T], before: &mut [T]) {
        let ([r, s, n, q, h], [wr, ws, wn, wq]) = (self.0, w);
        curvature(r, s, n, q, h, dh, wr, ws, wn, wq, along, before);
    }
}

wide! {
    fn adjoint[T: Real](
        r: &[T],
        s: &[T],
        n: &[T],
        q: &[T],
        h: &[T],
        dh: &mut [T],
        dr: &mut [T],
        ds: &mut [T],
        dn: &mut [T],
        dq: &mut [T],
    ) {
        let len = r.len();
        let (s, n, q, h) = (&s[..len], &n[..len], &q[..len], &h[..len]);
        let (dh, dr, ds) = (&mut dh[..len], &mut dr[..len], &mut ds[..len]);
        let (dn, dq) = (&mut dn[..len], &mut dq[..len]);
        let one = T::ONE;
        for j in 0..len {
            let (r, s, n, d) = (r[j], s[j], n[j], dh[j]);
            let proposed = d * (one - s) * (one - n * n);
            dn[j] = proposed;
            dr[j] = proposed * q[j] * r * (one - r);
            dq[j] = proposed * r;
            ds[j] = d * (h[j] - n) * s * (one - s);
            dh[j] = d * s;
        }
    }
}

wide! {
    fn curvature[T: Real](
        r: &[T],
        s: &[T],
        n: &[T],
        q: &[T],
        h: &[T],
        dh: &[T],
        wr: &mut [T],
        ws: &mut [T],
        wn: &mut [T],
        wq: &mut [T],
        along: &mut [T],
        before: &mut [T],
    ) {
        let len = r.len();
        let (s, n, q, h, dh) = (&s[..len], &n[..len], &q[..len], &h[..len], &dh[..len]);
        let (wr, ws, wn, wq) = (&mut wr[..len], &mut ws[..len], &mut wn[..len], &mut wq[..len]);
        let (along, before) = (&mut along[..len], &mut before[..len]);
        let (one, two) = (T::ONE, T::ONE + T::ONE);
        for j in 0..len {
            let (r, s, n, q, h, d, nu) = (r[j], s[j], n[j], q[j], h[j], dh[j], along[j]);
            let (vr, vs, vn, vq) = (wr[j], ws[j], wn[j], wq[j]);
            let (sr, ss, sn) = (r * (one - r), s * (one - s), one - n * n);
            // All of δn, and what multiplies it.
            let proposed = d * (one - s) * sn;
            let whole = vn + vq * r + vr * q * sr;
            along[j] = whole * (one - s) * sn + vs * (h - n) * ss + nu * s;
            let along_n = (T::ZERO - d) * (two * n * whole * (one - s) + vs * ss) * sn;
            wr[j] = (proposed * (vq + vr * q * (one - two * r)) + along_n * q) * sr;
            wq[j] = proposed * vr * sr + along_n * r;
            ws[j] = d * (vs * (h - n) * (one - two * s) + nu - whole * sn) * ss;
            wn[j] = along_n;
            before[j] = d * vs * ss;
        }
    }
}
