use t::APISIX 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    if (!defined $block->request) {
        $block->set_value("request", "GET /t");
    }
    $block->set_value("config", "location /t { return 200 'apple'; }");
});

run_tests();

__DATA__

=== right: response_body with a request of the prologue
--- response_body chomp
apple



=== wrong: response_body with a request of the prologue
--- response_body chomp
pear



=== right: stream_response
--- stream_response chomp
apple



=== wrong: stream_response
--- stream_response chomp
pear



=== right: stream_response_like
--- stream_response_like: ^app



=== wrong: stream_response_like
--- stream_response_like: ^pea



=== right: sections that nobody knows are printed
--- response_body_chomp
pear
--- kill: etcd
