"""The admin API: REST over HTTPS, one sentence for every refusal, and an OpenAPI document made from its types."""
