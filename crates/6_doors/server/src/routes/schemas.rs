//! Names for the schemas of the nouns: each is the one frame, `Record`, with its own spec and status.

use std::borrow::Cow;

use model::{GuestSpec, GuestStatus, ImageSpec, ImageStatus, NetworkSpec, NetworkStatus, Record};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

macro_rules! noun {
    ($name:ident, $spec:ty, $status:ty) => {
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                Record::<$spec, $status>::schema()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                Record::<$spec, $status>::schemas(schemas);
                schemas.push((<$spec>::name().into_owned(), <$spec>::schema()));
                schemas.push((<$status>::name().into_owned(), <$status>::schema()));
                <$spec>::schemas(schemas);
                <$status>::schemas(schemas);
            }
        }
    };
}

noun!(Guest, GuestSpec, GuestStatus);
noun!(Image, ImageSpec, ImageStatus);
noun!(Network, NetworkSpec, NetworkStatus);
