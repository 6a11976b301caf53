//! The adapters that wgpu finds, in one order.

use burn::tensor::backend::{Backend, DeviceId, DeviceOps};
use burn_wgpu::WgpuDevice;

/// The adapter of this number: 0 is the one that the driver prefers, then the others, discrete,
/// integrated and virtual GPUs and the CPU.
pub(super) fn adapter<B: Backend<Device = WgpuDevice>>(number: usize) -> Option<WgpuDevice> {
    let listed = |kinds: std::ops::Range<u16>| {
        kinds.flat_map(|kind| {
            let count = B::device_count(kind) as u16;
            (0..count).map(move |index| WgpuDevice::from_id(DeviceId::new(kind, index)))
        })
    };
    match number {
        0 => Some(WgpuDevice::DefaultDevice),
        _ => listed(0..4).nth(number),
    }
}
