//! Listing twins page by page, shard after shard.

use kvarter_actors::message::{self, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, Catalog, City, DeviceNumber, DistrictName};
use kvarter_api::ANSWER_BYTES_MAX;
use kvarter_api::v1::{ListTwinsRequest, ListTwinsResponse, ReadConsistency, TwinFilter};
use kvarter_cluster::ShardId;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Status;
use xxhash_rust::xxh3::xxh3_64;

use crate::api::conversion::{filter, twin};
use crate::api::page_token::PageToken;
use crate::api::{ask, name, route, status};

const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 1_000;
/// A page is closed when its twins are so long, bytes: far below what an answer may be.
const PAGE_BYTES_MAX: usize = ANSWER_BYTES_MAX / 4;

/// What is listed.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    district: Option<DistrictName>,
    /// Empty: all.
    kind: String,
    filter: Option<message::TwinFilter>,
    consistency: message::Consistency,
}

impl Selection {
    /// Checked against `catalog`; the fields of every request that lists have the same names.
    pub(crate) fn from_public(
        parent: &str,
        kind: String,
        filter: Option<TwinFilter>,
        consistency: Option<ReadConsistency>,
        catalog: &Catalog,
    ) -> Result<Self, Status> {
        let district = name::parse_parent(parent, "parent")?;
        if !kind.is_empty() && catalog.kind(&kind).is_none() {
            return Err(status::invalid("kind", format!("there is no kind `{kind}`")));
        }
        let filter = filter::from_public(filter, &kind, catalog, "filter")?;
        Ok(Self { district, kind, filter, consistency: twin::consistency_from_public(consistency) })
    }

    /// The same on every node for the same twins: page tokens are held to it.
    fn digest(&self) -> u64 {
        let request = message::ListTwins { consistency: None, ..self.request() };
        xxh3_64(&request.encode_to_vec())
    }

    fn request(&self) -> message::ListTwins {
        message::ListTwins {
            district: self.district.as_ref().map_or_else(String::new, |district| district.as_str().to_owned()),
            kind: self.kind.clone(),
            consistency: Some(self.consistency),
            filter: self.filter.clone(),
            ..message::ListTwins::default()
        }
    }

    async fn shards(&self, city: &City) -> Result<Vec<ShardId>, Status> {
        match &self.district {
            Some(district) => Ok(vec![route::shard_of(city, district.as_str()).await?]),
            None => Ok(route::shards(city)),
        }
    }
}

/// Some of the twins that are listed.
pub(crate) struct Page {
    pub(crate) twins: Vec<message::Twin>,
    /// Empty on the last page alone.
    pub(crate) next_page_token: String,
    pub(crate) age_ms: u32,
}

/// The page of `selection` that begins at `page_token`. It is shorter than `size` only when it is the last one, its twins are
/// long, or most of the caller's time is over.
pub(crate) async fn page(
    city: &City,
    selection: &Selection,
    page_token: &str,
    size: u32,
    context: CallContext,
) -> Result<Page, Status> {
    let digest = selection.digest();
    let begin = PageToken::decode(page_token, digest, "page_token")?;
    let mut walk = Walk::new(digest, selection.shards(city).await?, begin)?;
    let begun = Instant::now();
    let (until, enough) = (begun + context.deadline, begun + context.deadline / 2);
    let mut bytes = 0;
    let mut page = Page { twins: Vec::new(), next_page_token: String::new(), age_ms: 0 };
    while let Some(PageToken { shard, device, .. }) = walk.next {
        let limit = size.saturating_sub(u32::try_from(page.twins.len()).unwrap_or(u32::MAX));
        if limit == 0 || bytes > PAGE_BYTES_MAX || Instant::now() > enough {
            break;
        }
        let ask = message::ListTwins { from_device: device.0, limit, ..selection.request() };
        let context = CallContext { deadline: until.saturating_duration_since(Instant::now()), ..context.clone() };
        let listed = list_in(city, shard, ask, context).await?;
        bytes += listed.encoded_len();
        page.age_ms = page.age_ms.max(listed.age_ms);
        page.twins.extend(listed.twins);
        walk.advance(listed.next_device.map(DeviceNumber));
    }
    page.next_page_token = walk.next.map_or_else(String::new, PageToken::encode);
    Ok(page)
}

/// One page of twins.
pub(crate) async fn list(
    city: &City,
    request: ListTwinsRequest,
    context: CallContext,
) -> Result<ListTwinsResponse, Status> {
    let ListTwinsRequest { parent, page_size, page_token, kind, consistency, filter } = request;
    let page_size = match page_size {
        0 => PAGE_SIZE_DEFAULT,
        1..=PAGE_SIZE_MAX => page_size,
        size => return Err(status::invalid("page_size", format!("{size} is above {PAGE_SIZE_MAX}"))),
    };
    let catalog = city.catalog().borrow().clone();
    let selection = Selection::from_public(&parent, kind, filter, consistency, &catalog)?;
    let Page { twins, next_page_token, age_ms } = page(city, &selection, &page_token, page_size, context).await?;
    let twins = twins.into_iter().map(|found| twin::to_public(found, &catalog)).collect();
    Ok(ListTwinsResponse { twins, next_page_token, age_ms })
}

async fn list_in(
    city: &City,
    shard: ShardId,
    request: message::ListTwins,
    context: CallContext,
) -> Result<message::TwinsListed, Status> {
    match ask::ask(city, shard, shard_request::Request::ListTwins(request), context).await? {
        Reply::TwinsListed(listed) => Ok(listed),
        _ => Err(ask::unexpected(shard)),
    }
}

/// The way over the shards of a list.
struct Walk {
    digest: u64,
    shards: Vec<ShardId>,
    next: Option<PageToken>,
}

impl Walk {
    fn new(digest: u64, shards: Vec<ShardId>, begin: Option<PageToken>) -> Result<Self, Status> {
        let next = match begin {
            Some(token) if !shards.contains(&token.shard) => {
                return Err(status::invalid("page_token", "given out for another parent"));
            }
            Some(token) => Some(token),
            None => shards.first().map(|shard| PageToken { digest, shard: *shard, device: DeviceNumber(0) }),
        };
        Ok(Self { digest, shards, next })
    }

    /// Goes on in the same shard, or at the begin of the next one.
    fn advance(&mut self, next_device: Option<DeviceNumber>) {
        let digest = self.digest;
        self.next = self.next.and_then(|PageToken { shard, .. }| match next_device {
            Some(device) => Some(PageToken { digest, shard, device }),
            None => {
                let place = self.shards.iter().position(|known| *known == shard)?;
                self.shards.get(place + 1).map(|shard| PageToken { digest, shard: *shard, device: DeviceNumber(0) })
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(shard: u32, device: u32) -> PageToken {
        PageToken { digest: 7, shard: ShardId(shard), device: DeviceNumber(device) }
    }

    #[test]
    fn a_list_visits_every_shard_once() {
        let mut walk = Walk::new(7, vec![ShardId(1), ShardId(4)], None).expect("a walk");
        assert_eq!(walk.next, Some(token(1, 0)));
        walk.advance(Some(DeviceNumber(9)));
        assert_eq!(walk.next, Some(token(1, 9)));
        walk.advance(None);
        assert_eq!(walk.next, Some(token(4, 0)));
        walk.advance(None);
        assert_eq!(walk.next, None);
    }

    #[test]
    fn a_token_of_another_parent_is_refused() {
        assert!(Walk::new(7, vec![ShardId(1)], Some(token(2, 5))).is_err());
        let walk = Walk::new(7, vec![ShardId(1), ShardId(2)], Some(token(2, 5))).expect("a walk");
        assert_eq!(walk.next, Some(token(2, 5)));
    }
}
