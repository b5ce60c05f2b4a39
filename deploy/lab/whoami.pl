#!/usr/bin/perl
# Answers every HTTP request with who it is and what it was asked: the container's name and addresses, the caller's
# address, the request's first line and headers. One process, many connections. Needs perl-base only.
use strict;
use warnings;
use Errno qw(EAGAIN EWOULDBLOCK EINTR);
use Socket qw(:DEFAULT IPPROTO_IPV6 IPV6_V6ONLY IN6ADDR_ANY inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6);

use constant { CONNECTIONS_MAX => 900, HEAD_BYTES_MAX => 65_536, IDLE_SECONDS_MAX => 60 };

$SIG{TERM} = $SIG{INT} = sub { exit 0 };
$SIG{PIPE} = 'IGNORE';
$| = 1;

my $port = $ENV{WHOAMI_PORT} || 80;
# One socket for both families.
socket(my $listener, PF_INET6, SOCK_STREAM, 6) or die "whoami: socket: $!\n";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, pack('l', 1));
setsockopt($listener, IPPROTO_IPV6, IPV6_V6ONLY, pack('l', 0));
bind($listener, pack_sockaddr_in6($port, IN6ADDR_ANY)) or die "whoami: port $port: $!\n";
listen($listener, 1024) or die "whoami: listen: $!\n";
$listener->blocking(0);
print "Starting up on port $port\n";

my %connections;    # descriptor → { socket, peer, in, out, close, seen }

while (1) {
    my ($readable, $writable) = ('', '');
    vec($readable, fileno($listener), 1) = 1 if keys(%connections) < CONNECTIONS_MAX;
    for my $number (keys %connections) {
        my $connection = $connections{$number};
        vec($connection->{out} eq '' ? $readable : $writable, $number, 1) = 1;
    }
    my $ready = select($readable, $writable, undef, 10);
    next if $ready < 0;
    accept_all() if $ready > 0 && vec($readable, fileno($listener), 1);
    my $now = time;
    for my $number (keys %connections) {
        my $connection = $connections{$number};
        if    (vec($readable, $number, 1)) { receive($number, $connection) }
        elsif (vec($writable, $number, 1)) { send_out($number, $connection) }
        elsif ($now - $connection->{seen} > IDLE_SECONDS_MAX) { drop($number) }
    }
}

sub accept_all {
    while (keys(%connections) < CONNECTIONS_MAX) {
        my $from = accept(my $socket, $listener) or return;
        $socket->blocking(0);
        setsockopt($socket, 6, 1, pack('l', 1));    # TCP_NODELAY
        my ($peer_port, $peer_address) = unpack_sockaddr_in6($from);
        my $peer = inet_ntop(AF_INET6, $peer_address);
        $peer =~ s/^::ffff:(?=\d+\.)// or $peer = "[$peer]";
        $connections{ fileno $socket } = {
            socket => $socket, peer => "$peer:$peer_port",
            in => '', out => '', close => 0, seen => time,
        };
    }
}

sub receive {
    my ($number, $connection) = @_;
    my $count = sysread($connection->{socket}, $connection->{in}, 16_384, length $connection->{in});
    if (!defined $count) { drop($number) unless $! == EAGAIN || $! == EINTR; return }
    return drop($number) if $count == 0 || length($connection->{in}) > HEAD_BYTES_MAX;
    $connection->{seen} = time;
    answer_next($number, $connection);
}

# Answers the first whole request in the buffer, if there is one.
sub answer_next {
    my ($number, $connection) = @_;
    my $end = index($connection->{in}, "\r\n\r\n");
    return if $end < 0;
    my $head = substr($connection->{in}, 0, $end);
    my ($body_length) = $head =~ /^content-length:\s*(\d+)/im;
    my $whole = $end + 4 + ($body_length // 0);
    return if length($connection->{in}) < $whole && $whole <= HEAD_BYTES_MAX;
    substr($connection->{in}, 0, $whole, '');

    my ($first, @headers) = split /\r\n/, $head;
    my $body = "Hostname: " . hostname() . "\n";
    $body .= "IP: $_\n" for addresses();
    $body .= "RemoteAddr: $connection->{peer}\n" . join("\n", $first, @headers) . "\n\n";
    $connection->{close} =
        $head =~ /^connection:.*\bclose\b/im || $first !~ m{HTTP/1\.1$} && $head !~ /^connection:.*keep-alive/im;
    my $kind = $connection->{close} ? 'close' : 'keep-alive';
    $connection->{out} = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
        . 'Content-Length: ' . length($body) . "\r\nConnection: $kind\r\n\r\n"
        . ($first =~ /^HEAD / ? '' : $body);
    send_out($number, $connection);
}

sub send_out {
    my ($number, $connection) = @_;
    my $count = syswrite($connection->{socket}, $connection->{out});
    if (!defined $count) { drop($number) unless $! == EAGAIN || $! == EINTR; return }
    substr($connection->{out}, 0, $count, '');
    return if $connection->{out} ne '';
    return drop($number) if $connection->{close};
    answer_next($number, $connection) if $connection->{in} ne '';
}

sub drop {
    my ($number) = @_;
    my $connection = delete $connections{$number} or return;
    shutdown($connection->{socket}, 2);
    close $connection->{socket};
}

sub hostname {
    open(my $file, '<', '/proc/sys/kernel/hostname') or return 'unknown';
    chomp(my $name = <$file>);
    return $name;
}

# Every local IPv4 address of this network namespace.
sub addresses {
    open(my $file, '<', '/proc/net/fib_trie') or return;
    my (%seen, $address);
    while (my $line = <$file>) {
        $address = $1 if $line =~ /\|--\s+(\S+)/;
        $seen{$address} = 1 if $line =~ m{/32 host LOCAL} && defined $address;
    }
    return sort keys %seen;
}
