with

products as (

    select * from {{ ref('stg_products') }}

)

select
    product_id,
    sku,
    product_name,
    category,
    unit_cost,
    list_price,
    cast(list_price - unit_cost as decimal(10, 2)) as unit_margin,
    cast((list_price - unit_cost) / nullif(list_price, 0) as decimal(6, 4)) as margin_rate,
    case
        when list_price < 20 then 'small'
        when list_price < 60 then 'medium'
        else 'large'
    end as price_band,
    launched_on,
    is_active
from products
