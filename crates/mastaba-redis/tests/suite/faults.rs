//! The network fails between one process and the server, which another process reaches.

mastaba_test::every_outage!(network crate::common::OverRedis);
