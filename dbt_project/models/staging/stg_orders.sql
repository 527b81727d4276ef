-- A table: a view over the file could be queried from this directory only.
{{ config(materialized='table') }}

with

orders as (

    select * from {{ source('shop', 'orders') }}

)

select
    cast(order_id as integer) as order_id,
    cast(customer_id as integer) as customer_id,
    cast(store_id as integer) as store_id,
    lower(status) as order_status,
    cast(ordered_at as timestamp) as ordered_at,
    cast(ordered_at as date) as order_date,
    cast(shipping_fee as decimal(10, 2)) as shipping_fee,
    cast(updated_at as timestamp) as updated_at,
    cast(loaded_at as timestamp) as loaded_at
from orders
