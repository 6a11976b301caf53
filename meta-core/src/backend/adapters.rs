//! The adapters that wgpu finds, in one order.

use burn::tensor::backend::Backend;
use burn_wgpu::WgpuDevice;

/// The device of a number among those of one kind.
type OfKind = fn(usize) -> WgpuDevice;

/// The adapter of this number: 0 is the one that the driver prefers, then the others, discrete,
/// integrated and virtual GPUs and the CPU.
pub(super) fn adapter<B: Backend<Device = WgpuDevice>>(number: usize) -> Option<WgpuDevice> {
    // Numbers of the kinds are wgpu's.
    let kinds: [(u16, OfKind); 4] = [
        (0, WgpuDevice::DiscreteGpu),
        (1, WgpuDevice::IntegratedGpu),
        (2, WgpuDevice::VirtualGpu),
        (3, |_| WgpuDevice::Cpu),
    ];
    let mut listed = kinds
        .into_iter()
        .flat_map(|(kind, device)| (0..B::device_count(kind)).map(device));
    match number {
        0 => Some(WgpuDevice::DefaultDevice),
        _ => listed.nth(number),
    }
}
