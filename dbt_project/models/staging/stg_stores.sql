with

stores as (

    select * from {{ ref('stores') }}

)

select
    store_id,
    store_name,
    city,
    state,
    channel,
    channel = 'online' as is_online,
    opened_on,
    floor_area_sqm
from stores
