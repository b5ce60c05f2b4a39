#!/usr/bin/perl
# What a container of the benchmark does. Needs perl-base only.
#   client.pl idle                          nothing, until told to stop
#   client.pl dns NAME SECONDS OUTSTANDING  queries per second of its name server
#   client.pl watch NAME COUNT SECONDS      "ready", then "seen" when NAME has exactly COUNT addresses
#   client.pl connect ADDRESS PORT SECONDS  TCP connections opened and closed per second
use strict;
use warnings;
use POSIX ();
use Socket;

$| = 1;
my ($mode, @arguments) = @ARGV;
my %modes = (idle => \&idle, dns => \&dns, watch => \&watch, connect => \&connections);
($modes{ $mode // '' } or die "client: unknown mode\n")->(@arguments);

sub idle {
    $SIG{TERM} = $SIG{INT} = sub { exit 0 };
    sleep 3600 while 1;
}

# Seconds of a clock that only goes forward, in steps of a hundredth.
sub now { return (POSIX::times())[0] / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }

sub name_server {
    open my $file, '<', '/etc/resolv.conf' or die "client: resolv.conf: $!\n";
    while (<$file>) { return $1 if /^nameserver\s+([\d.]+)/ }
    die "client: no name server\n";
}

sub open_dns {
    socket(my $socket, PF_INET, SOCK_DGRAM, 17) or die "client: socket: $!\n";
    connect($socket, sockaddr_in(53, inet_aton(name_server()))) or die "client: connect: $!\n";
    return $socket;
}

sub query {
    my ($id, $name) = @_;
    return pack('n6', $id, 0x0100, 1, 0, 0, 0) . join('', map { pack 'C/a', $_ } split /\./, $name) . pack('Cnn', 0, 1, 1);
}

sub has_answer {
    my ($socket, $seconds) = @_;
    my $readable = '';
    vec($readable, fileno $socket, 1) = 1;
    return select($readable, undef, undef, $seconds) > 0;
}

sub dns {
    my ($name, $seconds, $outstanding) = @_;
    my $socket = open_dns();
    my ($id, $answered, $start) = (0, 0, now());
    my $end = $start + $seconds;
    my $ask = sub { send $socket, query($id = ($id + 1) & 0xffff, $name), 0 };
    $ask->() for 1 .. $outstanding;
    while (now() < $end) {
        if (!has_answer($socket, 1)) { $ask->() for 1 .. $outstanding; next }
        recv $socket, my $answer, 4096, 0;
        die "client: $name has no address\n" if unpack('x6 n', $answer) == 0;
        $answered++;
        $ask->();
    }
    printf "%.1f\n", $answered / (now() - $start);
}

sub watch {
    my ($name, $count, $seconds) = @_;
    my $socket = open_dns();
    my ($id, $end) = (0, now() + $seconds);
    print "ready\n";
    while (now() < $end) {
        $id = ($id + 1) & 0xffff;
        send $socket, query($id, $name), 0;
        my $seen = -1;
        # A name that nobody has yet is asked of servers further up, which may be silent: that answer is not waited for.
        while (has_answer($socket, 0.02)) {
            recv $socket, my $answer, 4096, 0;
            next if unpack('n', $answer) != $id;
            $seen = unpack 'x6 n', $answer;
            last;
        }
        if ($seen == $count) { print "seen\n"; return }
        select undef, undef, undef, 0.005;
    }
    die "client: $name did not come to have $count addresses\n";
}

sub connections {
    my ($address, $port, $seconds) = @_;
    my $target = sockaddr_in($port, inet_aton($address) // die "client: $address is unknown\n");
    my ($done, $start) = (0, now());
    while (now() < $start + $seconds) {
        socket(my $socket, PF_INET, SOCK_STREAM, 6) or die "client: socket: $!\n";
        connect($socket, $target) or die "client: connect: $!\n";
        # Closed by a reset: no port stays behind in TIME_WAIT.
        setsockopt($socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
        close $socket;
        $done++;
    }
    printf "%.1f\n", $done / (now() - $start);
}
