-- Nobody gets more money back than was paid.
with

order_payments as (

    select * from {{ ref('int_order_payments') }}

)

select
    order_id,
    paid_amount,
    refunded_amount
from order_payments
where refunded_amount > paid_amount
