package main

type workerd struct{ addr string }

const withoutPeer = "workerd was not measured: BENCH_PEERS=1 installs it from the npm registry"

func (b *bench) startPeer() error { return nil }
