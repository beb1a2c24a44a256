package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// certificates writes a CA (ca.crt), the certificate with which the API server calls the kubelet
// (kubelet-client.crt, .key), and the one of the pool that speaks TLS (pool.crt, .key).
func certificates(_ context.Context, arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("wanted a folder")
	}
	folder := arguments[0]
	authority := template("test authority", 1)
	authority.IsCA, authority.BasicConstraintsValid = true, true
	authority.KeyUsage = x509.KeyUsageCertSign
	authorityKey, err := write(folder, "ca", authority, authority, nil)
	if err != nil {
		return err
	}
	client := template("kube-apiserver-kubelet-client", 2)
	client.Subject.Organization = []string{"system:masters"}
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := write(folder, "kubelet-client", client, authority, authorityKey); err != nil {
		return err
	}
	server := template("pool.example.net", 3)
	server.DNSNames = []string{"pool.example.net"}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	_, err = write(folder, "pool", server, authority, authorityKey)
	return err
}

func template(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// write makes a key and a certificate; without a parent's key it signs itself.
func write(folder, name string, certificate, parent *x509.Certificate, parentKey crypto.Signer) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if parentKey == nil {
		parentKey = key
	}
	signed, err := x509.CreateCertificate(rand.Reader, certificate, parent, key.Public(), parentKey)
	if err != nil {
		return nil, err
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, errors.Join(
		writePem(filepath.Join(folder, name+".crt"), "CERTIFICATE", signed),
		writePem(filepath.Join(folder, name+".key"), "PRIVATE KEY", keyBytes),
	)
}

func writePem(path, kind string, bytes []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600)
}
