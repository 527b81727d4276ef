-- A table: a view over the file could be queried from this directory only.
{{ config(materialized='table') }}

with

payments as (

    select * from {{ source('shop', 'payments') }}

),

typed as (

    select
        cast(payment_id as integer) as payment_id,
        cast(order_id as integer) as order_id,
        lower(payment_kind) as payment_kind,
        lower(payment_method) as payment_method,
        cast(amount as decimal(10, 2)) as amount,
        cast(paid_at as timestamp) as paid_at,
        cast(loaded_at as timestamp) as loaded_at
    from payments

)

select
    payment_id,
    order_id,
    payment_kind,
    payment_method,
    amount,
    cast(
        case when payment_kind = 'refund' then -amount else amount end as decimal(10, 2)
    ) as signed_amount,
    paid_at,
    loaded_at
from typed
