//! A step of long short-term memory, its adjoint and the derivative of that, element by element.
//!
//! `i f o g` are the gates after their activations, `m = tanh c`. With `dh`, `dc` the gradients along what
//! a step gives, and `d = dc + dh o (1 − m²)` along its cell, the adjoint is
//!
//! ```text
//! δi = d g i (1 − i),   δf = d c⁻ f (1 − f),   δo = dh m o (1 − o),   δg = d i (1 − g²),   dc⁻ = d f
//! ```

use crate::real::{Real, wide};

wide! {
    /// From the sums of the gates to the gates; `c` and `h` from those before to the next.
    pub fn forward[T: Real](
        i: &mut [T],
        f: &mut [T],
        o: &mut [T],
        g: &mut [T],
        c: &mut [T],
        h: &mut [T],
    ) {
        let n = i.len();
        let (f, o, g, c, h) = (&mut f[..n], &mut o[..n], &mut g[..n], &mut c[..n], &mut h[..n]);
        for j in 0..n {
            (i[j], f[j], o[j]) = (i[j].sigmoid(), f[j].sigmoid(), o[j].sigmoid());
            g[j] = g[j].tanh();
            c[j] = f[j] * c[j] + i[j] * g[j];
            h[j] = o[j] * c[j].tanh();
        }
    }
}

/// What the forward pass kept of a step of a piece: planes of equal length.
#[derive(Clone, Copy)]
pub struct Kept<'a, T> {
    /// Gates.
    pub gates: [&'a [T]; 4],
    /// Cell before and after.
    pub cells: [&'a [T]; 2],
}

impl<T: Real> Kept<'_, T> {
    /// The adjoint: `dc` from the gradient along the cell to that along the cell before, `total` is `d`,
    /// `sums` the gradients along the sums of the gates.
    pub fn adjoint(&self, dh: &[T], dc: &mut [T], total: &mut [T], sums: [&mut [T]; 4]) {
        let ([i, f, o, g], [before, after]) = (self.gates, self.cells);
        let [di, df, d_o, dg] = sums;
        adjoint(i, f, o, g, before, after, dh, dc, total, di, df, d_o, dg);
    }

    /// The derivative of the adjoint's product with a direction: `w` along the sums of the gates, `along`
    /// (`ν`) along the cell before. `dh` and `total` are the adjoint's. `w` becomes the derivative along
    /// the sums of the gates, `along` and `hidden` those along `dc` and `dh`, `cells` those along the cell
    /// before and after.
    pub fn curvature(
        &self,
        [dh, total]: [&[T]; 2],
        w: [&mut [T]; 4],
        along: &mut [T],
        hidden: &mut [T],
        cells: [&mut [T]; 2],
    ) {
        let ([i, f, o, g], [before, after]) = (self.gates, self.cells);
        let ([wi, wf, wo, wg], [along_before, along_after]) = (w, cells);
        curvature(
            i,
            f,
            o,
            g,
            before,
            after,
            dh,
            total,
            wi,
            wf,
            wo,
            wg,
            along,
            hidden,
            along_before,
            along_after,
        );
    }

    /// Through the cell: `carried` is the derivative along the cell before the next step, `after` and
    /// `before` are those of this step; `sums` get the derivatives along the sums of `i f g`, `carried`
    /// the one along the cell before this step.
    pub fn through_cell(&self, [before, after]: [&[T]; 2], carried: &mut [T], sums: [&mut [T]; 3]) {
        let ([i, f, _, g], [cell, _]) = (self.gates, self.cells);
        let [ei, ef, eg] = sums;
        through_cell(i, f, g, cell, before, after, carried, ei, ef, eg);
    }
}

wide! {
    fn adjoint[T: Real](
        i: &[T],
        f: &[T],
        o: &[T],
        g: &[T],
        before: &[T],
        after: &[T],
        dh: &[T],
        dc: &mut [T],
        total: &mut [T],
        di: &mut [T],
        df: &mut [T],
        d_o: &mut [T],
        dg: &mut [T],
    ) {
        let n = i.len();
        let (f, o, g) = (&f[..n], &o[..n], &g[..n]);
        let (before, after, dh) = (&before[..n], &after[..n], &dh[..n]);
        let (dc, total) = (&mut dc[..n], &mut total[..n]);
        let (di, df, d_o, dg) = (&mut di[..n], &mut df[..n], &mut d_o[..n], &mut dg[..n]);
        let one = T::ONE;
        for j in 0..n {
            let (i, f, o, g, dh) = (i[j], f[j], o[j], g[j], dh[j]);
            let m = after[j].tanh();
            let d = dc[j] + dh * o * (one - m * m);
            di[j] = d * g * i * (one - i);
            df[j] = d * before[j] * f * (one - f);
            d_o[j] = dh * m * o * (one - o);
            dg[j] = d * i * (one - g * g);
            dc[j] = d * f;
            total[j] = d;
        }
    }
}

wide! {
    fn curvature[T: Real](
        i: &[T],
        f: &[T],
        o: &[T],
        g: &[T],
        before: &[T],
        after: &[T],
        dh: &[T],
        total: &[T],
        wi: &mut [T],
        wf: &mut [T],
        wo: &mut [T],
        wg: &mut [T],
        along: &mut [T],
        hidden: &mut [T],
        along_before: &mut [T],
        along_after: &mut [T],
    ) {
        let n = i.len();
        let (f, o, g, before, after) = (&f[..n], &o[..n], &g[..n], &before[..n], &after[..n]);
        let (dh, total) = (&dh[..n], &total[..n]);
        let (wi, wf, wo, wg) = (&mut wi[..n], &mut wf[..n], &mut wo[..n], &mut wg[..n]);
        let (along, hidden) = (&mut along[..n], &mut hidden[..n]);
        let (along_before, along_after) = (&mut along_before[..n], &mut along_after[..n]);
        let (one, two) = (T::ONE, T::ONE + T::ONE);
        for j in 0..n {
            let (i, f, o, g, c) = (i[j], f[j], o[j], g[j], before[j]);
            let (dh, d, nu) = (dh[j], total[j], along[j]);
            let (vi, vf, vo, vg) = (wi[j], wf[j], wo[j], wg[j]);
            let m = after[j].tanh();
            // The derivatives of the four activations, and of tanh c.
            let (si, sf, so) = (i * (one - i), f * (one - f), o * (one - o));
            let (sg, sm) = (one - g * g, one - m * m);
            let mu = vi * g * si + vf * c * sf + vg * i * sg + nu * f;
            along[j] = mu;
            hidden[j] = vo * m * so + mu * o * sm;
            wi[j] = d * (vi * g * (one - two * i) + vg * sg) * si;
            wf[j] = d * (vf * c * (one - two * f) + nu) * sf;
            wg[j] = d * (vi * si - two * vg * i * g) * sg;
            wo[j] = dh * (vo * m * (one - two * o) + mu * sm) * so;
            along_after[j] = dh * (vo * so - two * mu * o * m) * sm;
            along_before[j] = d * vf * sf;
        }
    }
}

wide! {
    fn through_cell[T: Real](
        i: &[T],
        f: &[T],
        g: &[T],
        cell: &[T],
        before: &[T],
        after: &[T],
        carried: &mut [T],
        ei: &mut [T],
        ef: &mut [T],
        eg: &mut [T],
    ) {
        let n = i.len();
        let (f, g, cell, before, after) = (&f[..n], &g[..n], &cell[..n], &before[..n], &after[..n]);
        let (carried, ei, ef, eg) = (&mut carried[..n], &mut ei[..n], &mut ef[..n], &mut eg[..n]);
        let one = T::ONE;
        for j in 0..n {
            let (i, f, g) = (i[j], f[j], g[j]);
            let e = after[j] + carried[j];
            ei[j] = e * g * i * (one - i);
            ef[j] = e * cell[j] * f * (one - f);
            eg[j] = e * i * (one - g * g);
            carried[j] = before[j] + e * f;
        }
    }
}
