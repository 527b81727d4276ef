with

customers as (

    select * from {{ ref('stg_customers') }}

),

customer_orders as (

    select * from {{ ref('int_customer_orders') }}

)

select
    customers.customer_id,
    customers.full_name,
    customers.email,
    customers.city,
    customers.country_code,
    customers.signup_date,
    customers.marketing_channel,
    customers.is_newsletter_subscriber,
    customer_orders.first_ordered_at,
    customer_orders.last_ordered_at,
    coalesce(customer_orders.order_count, 0) as order_count,
    case
        when customer_orders.order_count is null then 'prospect'
        when customer_orders.order_count = 1 then 'new'
        when customer_orders.order_count < 10 then 'repeat'
        else 'regular'
    end as customer_stage
from customers
left join customer_orders
    on customers.customer_id = customer_orders.customer_id
