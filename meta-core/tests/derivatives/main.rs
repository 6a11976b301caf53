//! Everything that is checked in f64: one binary, since a process has one default float type per
//! backend.

mod attention;
mod calibration;
mod encoders;
mod layers;
mod levels;
mod optimizers;
mod primitives;
mod recurrent;
mod sequences;
mod support;
mod temporal;
mod weights;
