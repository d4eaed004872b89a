//! One client of etcd: a put, or a transaction of many puts, at a time.
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use super::GROUP;
use super::api::kv_client::KvClient;
use super::api::request_op::Request;
use super::api::{PutRequest, RequestOp, TxnRequest};
use crate::compare::drive::{Group, WriteError, Writer};
use crate::compare::payload::Payload;
use crate::compare::system::Clients;

pub(crate) struct EtcdWriter {
    /// One for each member.
    members: Vec<KvClient<Channel>>,
    member: usize,
    payload: Payload,
    patience: Duration,
    keys: Vec<Bytes>,
    first_observed_us: i64,
    written: u64,
}

impl EtcdWriter {
    /// Client `number` of `clients`. It asks member `first`, and after an error the next.
    pub(crate) fn new(channels: &[Channel], first: usize, clients: &Clients, number: usize) -> Self {
        let keys = clients.devices_of(number).map(|device| clients.payload.etcd_key(&device)).collect();
        Self {
            members: channels.iter().cloned().map(KvClient::new).collect(),
            member: first,
            payload: clients.payload,
            patience: clients.patience,
            keys,
            first_observed_us: clients.first_observed_us,
            written: 0,
        }
    }

    fn next_put(&mut self) -> PutRequest {
        let turns = self.keys.len() as u64;
        let serial = self.written;
        self.written += 1;
        let place = usize::try_from(serial % turns).expect("below the number of keys");
        let observed_us = self.first_observed_us + (serial / turns).cast_signed();
        PutRequest { key: self.keys[place].clone(), value: self.payload.etcd_value(observed_us, serial) }
    }

    async fn put(&mut self, records: u32) -> Result<(), Status> {
        if records == 1 {
            let put = self.next_put();
            return self.members[self.member].put(put).await.map(drop);
        }
        let op = |put| RequestOp { request: Some(Request::RequestPut(put)) };
        let success = (0..records).map(|_| op(self.next_put())).collect();
        let written = self.members[self.member].txn(TxnRequest { success }).await?;
        if written.get_ref().succeeded { Ok(()) } else { Err(Status::aborted("the transaction did not succeed")) }
    }
}

impl Writer for EtcdWriter {
    async fn write(&mut self, records: u32) -> Result<Group, WriteError> {
        let patience = self.patience;
        let written = timeout(patience, self.put(records)).await;
        let problem = match written {
            Ok(Ok(())) => return Ok(GROUP),
            Ok(Err(status)) => format!("etcd: {status}"),
            Err(_elapsed) => format!("etcd: no answer within {} ms", patience.as_millis()),
        };
        self.member = (self.member + 1) % self.members.len();
        Err(WriteError(problem))
    }
}
