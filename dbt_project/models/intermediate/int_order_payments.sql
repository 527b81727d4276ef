with

payments as (

    select * from {{ ref('stg_payments') }}

)

select
    order_id,
    count(*) filter (where payment_kind = 'payment') as payment_count,
    count(*) filter (where payment_kind = 'refund') as refund_count,
    cast(
        coalesce(sum(amount) filter (where payment_kind = 'payment'), 0) as decimal(12, 2)
    ) as paid_amount,
    cast(
        coalesce(sum(amount) filter (where payment_kind = 'refund'), 0) as decimal(12, 2)
    ) as refunded_amount,
    cast(sum(signed_amount) as decimal(12, 2)) as net_paid_amount,
    arg_max(payment_method, amount) filter (where payment_kind = 'payment') as main_payment_method,
    min(paid_at) filter (where payment_kind = 'payment') as first_paid_at,
    max(paid_at) as last_payment_at
from payments
group by order_id
