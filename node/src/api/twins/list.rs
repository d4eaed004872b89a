//! Listing twins page by page, shard after shard.

use kvarter_actors::message::{self, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, City, DeviceNumber};
use kvarter_api::v1::{ListTwinsRequest, ListTwinsResponse};
use kvarter_cluster::ShardId;
use tokio::time::Instant;
use tonic::Status;

use crate::api::conversion::twin;
use crate::api::page_token::PageToken;
use crate::api::{ask, name, route, status};

const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 1_000;

/// One page of twins. A page is shorter than asked for only when it is the last one.
pub(crate) async fn list(
    city: &City,
    request: ListTwinsRequest,
    context: CallContext,
) -> Result<ListTwinsResponse, Status> {
    let page_size = match request.page_size {
        0 => PAGE_SIZE_DEFAULT,
        1..=PAGE_SIZE_MAX => request.page_size,
        size => return Err(status::invalid("page_size", format!("{size} is above {PAGE_SIZE_MAX}"))),
    };
    let district = name::parse_parent(&request.parent, "parent")?;
    let catalog = city.catalog().borrow().clone();
    if !request.kind.is_empty() && catalog.kind(&request.kind).is_none() {
        return Err(status::invalid("kind", format!("there is no kind `{}`", request.kind)));
    }
    let shards = match &district {
        Some(district) => vec![route::shard_of(city, district.as_str()).await?],
        None => route::shards(city),
    };
    let begin = PageToken::decode(&request.page_token, "page_token")?;
    let mut walk = Walk::new(shards, begin)?;
    let until = Instant::now() + context.deadline;
    let mut response = ListTwinsResponse::default();
    while let Some(PageToken { shard, device }) = walk.next {
        let limit = page_size - u32::try_from(response.twins.len()).expect("at most a page");
        if limit == 0 {
            break;
        }
        let ask = message::ListTwins {
            district: district.as_ref().map_or_else(String::new, |district| district.as_str().to_owned()),
            kind: request.kind.clone(),
            from_device: device.0,
            limit,
            consistency: Some(twin::consistency_from_public(request.consistency)),
        };
        let context = CallContext { deadline: until.saturating_duration_since(Instant::now()), ..context.clone() };
        let listed = list_in(city, shard, ask, context).await?;
        response.age_ms = response.age_ms.max(listed.age_ms);
        response.twins.extend(listed.twins.into_iter().map(|found| twin::to_public(found, &catalog)));
        walk.advance(listed.next_device.map(DeviceNumber));
    }
    response.next_page_token = walk.next.map_or_else(String::new, PageToken::encode);
    Ok(response)
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
    shards: Vec<ShardId>,
    next: Option<PageToken>,
}

impl Walk {
    fn new(shards: Vec<ShardId>, begin: Option<PageToken>) -> Result<Self, Status> {
        let next = match begin {
            Some(token) if !shards.contains(&token.shard) => {
                return Err(status::invalid("page_token", "given out for another parent"));
            }
            Some(token) => Some(token),
            None => shards.first().map(|shard| PageToken { shard: *shard, device: DeviceNumber(0) }),
        };
        Ok(Self { shards, next })
    }

    /// Goes on in the same shard, or at the begin of the next one.
    fn advance(&mut self, next_device: Option<DeviceNumber>) {
        self.next = self.next.and_then(|PageToken { shard, .. }| match next_device {
            Some(device) => Some(PageToken { shard, device }),
            None => {
                let place = self.shards.iter().position(|known| *known == shard)?;
                self.shards.get(place + 1).map(|shard| PageToken { shard: *shard, device: DeviceNumber(0) })
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(shard: u32, device: u32) -> PageToken {
        PageToken { shard: ShardId(shard), device: DeviceNumber(device) }
    }

    #[test]
    fn a_list_visits_every_shard_once() {
        let mut walk = Walk::new(vec![ShardId(1), ShardId(4)], None).expect("a walk");
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
        assert!(Walk::new(vec![ShardId(1)], Some(token(2, 5))).is_err());
        let walk = Walk::new(vec![ShardId(1), ShardId(2)], Some(token(2, 5))).expect("a walk");
        assert_eq!(walk.next, Some(token(2, 5)));
    }
}
