-- A table: a view over the file could be queried from this directory only.
{{ config(materialized='table') }}

with

order_items as (

    select * from {{ source('shop', 'order_items') }}

),

typed as (

    select
        cast(order_item_id as integer) as order_item_id,
        cast(order_id as integer) as order_id,
        cast(product_id as integer) as product_id,
        cast(quantity as integer) as quantity,
        cast(unit_price as decimal(10, 2)) as unit_price,
        cast(loaded_at as timestamp) as loaded_at
    from order_items

)

select
    order_item_id,
    order_id,
    product_id,
    quantity,
    unit_price,
    cast(quantity * unit_price as decimal(12, 2)) as line_amount,
    loaded_at
from typed
