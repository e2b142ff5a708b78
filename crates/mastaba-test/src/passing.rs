//! Backends of a test that do one thing in their own way, and pass everything else on.

#[doc(hidden)]
pub use bytes::Bytes;
#[doc(hidden)]
pub use mastaba::{Fault, shared};

/// Operations of a [`Shared`](mastaba::shared::Shared) that are those of a field: `pass_on!(0: read, lease)` within the
/// `impl`, where the field is a backend itself.
///
/// ```
/// use mastaba::shared::{Abilities, Shared, memory::Memory};
///
/// /// Memory that takes two keys at once.
/// struct Two(Memory);
///
/// impl Shared for Two {
///     const ABILITIES: Abilities = Abilities { max_batch: 2, ..Memory::ABILITIES };
///     mastaba_test::pass_on!(0: read, lease, fill, invalidate, hold, end, incarnation);
/// }
///
/// let memory = Memory::default();
/// assert_eq!(Two(memory.clone()).incarnation(), memory.incarnation());
/// ```
#[macro_export]
macro_rules! pass_on {
    ($to:tt: $($operation:ident),+ $(,)?) => {
        $($crate::pass_on!(@ $to $operation);)+
    };
    (@ $to:tt read) => {
        async fn read(
            &self,
            keys: &[$crate::passing::Bytes],
        ) -> Result<Vec<Option<$crate::passing::Bytes>>, $crate::passing::Fault> {
            self.$to.read(keys).await
        }
    };
    (@ $to:tt lease) => {
        async fn lease(
            &self,
            leases: &[$crate::passing::shared::Lease],
            stamps: &[$crate::passing::shared::Stamp],
        ) -> Result<$crate::passing::shared::Leases, $crate::passing::Fault> {
            self.$to.lease(leases, stamps).await
        }
    };
    (@ $to:tt fill) => {
        async fn fill(
            &self,
            fills: &[$crate::passing::shared::Fill],
        ) -> Result<Vec<$crate::passing::shared::Filled>, $crate::passing::Fault> {
            self.$to.fill(fills).await
        }
    };
    (@ $to:tt invalidate) => {
        async fn invalidate(
            &self,
            keys: &[$crate::passing::Bytes],
            stamps: &[$crate::passing::shared::Stamp],
        ) -> Result<(), $crate::passing::Fault> {
            self.$to.invalidate(keys, stamps).await
        }
    };
    (@ $to:tt hold) => {
        async fn hold(
            &self,
            holds: &[$crate::passing::shared::Hold],
        ) -> Result<(), $crate::passing::Fault> {
            self.$to.hold(holds).await
        }
    };
    (@ $to:tt end) => {
        async fn end(
            &self,
            ends: &[$crate::passing::shared::End],
        ) -> Result<Vec<$crate::passing::shared::Ended>, $crate::passing::Fault> {
            self.$to.end(ends).await
        }
    };
    (@ $to:tt stamps) => {
        fn stamps(&self, prefix: &[u8], record: &$crate::passing::Bytes) -> bool {
            self.$to.stamps(prefix, record)
        }
    };
    (@ $to:tt incarnation) => {
        fn incarnation(&self) -> u64 {
            self.$to.incarnation()
        }
    };
}
